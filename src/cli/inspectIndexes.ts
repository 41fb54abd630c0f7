/** `evctl inspect indexes`: which fields are asked for, which have an index, and why. */
import type { FigureValues } from './inspectModel.js';
import { displayWidth, type Paint, padTo, visible } from './terminal.js';

const FIELD = 'index:';
const HEADER = ['FIELD', 'QUERIES', 'PRIORITY', 'SHARDS', 'WHY'] as const;
/** Queries and priority are numbers. */
const TO_THE_RIGHT: ReadonlySet<number> = new Set([1, 2, 3]);

/** The table, then the shards whose indexes tell something else. */
export function indexesText(figures: ReadonlyMap<string, FigureValues>, paint: Paint): string {
  const policy = figures.get('index-advisor');
  if (policy === undefined) return 'eventd has no index policy\n';
  if (policy.answers === false) return `${paint('yellow', 'the index policy does not answer')}\n`;
  const writers = [...figures].filter(([name]) => /^writer-\d+$/.test(name));
  const rows = [...figures].flatMap(([name, values]) =>
    name.startsWith(FIELD) ? [rowOf(name.slice(FIELD.length), values, policy, writers)] : [],
  );
  const table =
    rows.length === 0 ? 'no field has been asked for yet\n' : tableText(HEADER, TO_THE_RIGHT, rows, paint);
  return `${headText(policy)}\n\n${table}${shardsText(writers, paint)}`;
}

function headText({ queries, fields, decisions, decidedAt, windowHours }: FigureValues): string {
  const at = /^\d+$/.test(String(decidedAt))
    ? `, decided ${new Date(Number(String(decidedAt).slice(0, -6))).toISOString()}`
    : ', not decided since the start';
  return `${queries} queries by ${fields} fields within ${windowHours} h, ${decisions} decisions${at}`;
}

function rowOf(
  field: string,
  values: FigureValues,
  policy: FigureValues,
  writers: readonly (readonly [string, FigureValues])[],
): readonly string[] {
  const built = writers.filter(([, { indexNames }]) =>
    String(indexNames ?? '')
      .split(' ')
      .includes(String(values.index)),
  ).length;
  const isMember = typeof values.priority === 'number';
  return [
    visible(field),
    String(values.queries ?? 0),
    isMember ? String(values.priority) : '-',
    built > 0 || isMember ? `${built}/${writers.length}` : '-',
    whyText(String(values.why), values, policy),
  ];
}

/** The rule that decided, with its numbers. */
export function whyText(why: string, { queries }: FigureValues, policy: FigureValues): string {
  const { createThreshold, dropThreshold, windowHours } = policy;
  switch (why) {
    case 'manual':
      return `EVENTS INDEX named it less than ${windowHours} h ago`;
    case 'entered':
      return `entered: asked for ${createThreshold} times or more`;
    case 'stays':
      return `stays: it leaves below ${dropThreshold}`;
    case 'left':
      return `left: below ${dropThreshold}`;
    case 'noRoom':
      return 'waits: others are asked for more often, and there is no room for more';
    default:
      return Number(queries) >= Number(createThreshold)
        ? 'enters with the next decision'
        : `out: it enters at ${createThreshold}`;
  }
}

/** Columns beneath each other; those of `toTheRight` hold numbers. */
export function tableText(
  header: readonly string[],
  toTheRight: ReadonlySet<number>,
  rows: readonly (readonly string[])[],
  paint: Paint,
): string {
  const widths = header.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => displayWidth(row[column] ?? ''))),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => padTo(cell, widths[column] ?? 0, toTheRight.has(column) ? 'right' : 'left'))
      .join('  ')
      .trimEnd();
  return `${paint('bold', line(header))}\n${rows.map((row) => `${line(row)}\n`).join('')}`;
}

/** What each shard has, and what it does just now. */
function shardsText(writers: readonly (readonly [string, FigureValues])[], paint: Paint): string {
  const lines = writers.map(([name, { indexNames, building, answers }]) => {
    const names = String(indexNames ?? '')
      .split(' ')
      .filter((index) => index !== '');
    const now =
      building === true
        ? paint('yellow', '  (building)')
        : answers === false
          ? paint('yellow', '  (no answer)')
          : '';
    return `${name}: ${names.length === 0 ? 'no secondary index' : names.map(visible).join(', ')}${now}\n`;
  });
  return lines.length === 0 ? '' : `\n${lines.join('')}`;
}
