/** `evctl inspect rollups`: which pairs of function and window are asked for, which are kept, and why. */
import { tableText, whyText } from './inspectIndexes.js';
import type { FigureValues } from './inspectModel.js';
import { type Paint, visible } from './terminal.js';

const PAIR = 'rollup:';
const HEADER = ['PAIR', 'QUERIES', 'PRIORITY', 'WHY'];
const TO_THE_RIGHT: ReadonlySet<number> = new Set([1, 2]);

export function rollupsText(figures: ReadonlyMap<string, FigureValues>, paint: Paint): string {
  const advisor = figures.get('rollup-advisor');
  if (advisor === undefined) return 'eventd keeps no rollups\n';
  if (advisor.answers === false) return `${paint('yellow', 'the rollup advisor does not answer')}\n`;
  const rows = [...figures].flatMap(([name, values]) =>
    name.startsWith(PAIR) ? [rowOf(name.slice(PAIR.length), values, advisor)] : [],
  );
  const table =
    rows.length === 0 ? 'no pair has been asked for yet\n' : tableText(HEADER, TO_THE_RIGHT, rows, paint);
  return `${headText(advisor)}\n\n${table}`;
}

function headText({ pairs, rows, samples, decisions, pauses, failure }: FigureValues): string {
  const computed = `${rows} rows of ${samples} samples since the start`;
  const stopped = Number(pauses) > 0 ? `, stopped for writes ${pauses} times` : '';
  const failed = typeof failure === 'string' ? `, failed: ${failure}` : '';
  return `${pairs} pairs kept, ${computed}, ${decisions} decisions${stopped}${failed}`;
}

function rowOf(pair: string, values: FigureValues, advisor: FigureValues): readonly string[] {
  return [
    visible(pair),
    String(values.queries ?? 0),
    typeof values.priority === 'number' ? String(values.priority) : '-',
    whyText(String(values.why), values, advisor),
  ];
}
