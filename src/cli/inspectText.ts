/** How `evctl inspect` looks: the table of actors, and a line per transition. */
import { type Figure, figuresOf, kindOf } from './inspectFigures.js';
import type { ActorView, FigureValues, InspectChange } from './inspectModel.js';
import { type Paint, visible } from './terminal.js';

/** A transition that repeats itself is shown at most this often, ms of the daemon's clock. */
const REPEAT_MS = 10_000;
/** Transitions whose repetitions are counted at once. */
const MAX_REPEATING = 1000;

interface Row {
  readonly head: string;
  readonly kind: string;
  readonly state: string;
  readonly isUnwell: boolean;
  readonly figures: readonly (Figure | null)[];
}

/** The actors as an indented tree, one line each; an actor whose parent is unknown stands at the left. */
export function treeText(
  actors: readonly ActorView[],
  figures: ReadonlyMap<string, FigureValues>,
  paint: Paint,
): string {
  const rows = rowsOf(withSilent(actors, figures), figures);
  const headWidth = Math.max(0, ...rows.map(({ head }) => head.length));
  const stateWidth = Math.max(0, ...rows.map(({ state }) => state.length));
  const widths = columnWidths(rows);
  return rows
    .map(({ head, kind, state, isUnwell, figures: cells }) => {
      const columns = cells.flatMap((cell, column) => {
        const width = widths.get(kind)?.[column] ?? 0;
        if (width === 0) return [];
        const text = (cell?.text ?? '').padEnd(width);
        return [cell?.alarming === true ? paint('yellow', text) : paint('dim', text)];
      });
      const shown = paint(isUnwell ? 'yellow' : 'green', state.padEnd(stateWidth));
      return `${`${head.padEnd(headWidth)}  ${[shown, ...columns].join('  ')}`.trimEnd()}\n`;
    })
    .join('');
}

/** One line about one actor, as it stands in the table but without its neighbours. */
export function figuresLine(
  actor: ActorView,
  figures: FigureValues,
  at: number,
  paint: Paint,
  local: boolean,
): string {
  const cells = figuresOf(actor, figures).flatMap((cell) =>
    cell === null ? [] : [paint(cell.alarming ? 'yellow' : 'dim', cell.text)],
  );
  const parts = [paint('green', visible(actor.state)), ...cells];
  return `${lead(at, actor, paint, local)}  ${parts.join('  ')}\n`;
}

/** Turns changes into lines; what happens over and over is counted instead of shown. */
export class TransitionLines {
  readonly #paint: Paint;
  readonly #local: boolean;
  readonly #shown = new Map<string, { at: number; repeated: number }>();

  constructor(paint: Paint, local: boolean) {
    this.#paint = paint;
    this.#local = local;
  }

  /** `12:00:01.123 writer-0  idle → committing   (batch.available)`, or null when there is nothing to say. */
  line(change: InspectChange): string | null {
    if (change.kind === 'actor') {
      const { actor, isNew, at } = change;
      if (!isNew || actor.isHelper) return null;
      const state = actor.state === '' ? '' : `: ${visible(actor.state)}`;
      return this.#once(actor, 'started', at, `  started${state}`);
    }
    if (change.kind !== 'snapshot') return null;
    const { before, actor, at } = change;
    if (actor.isHelper) return null;
    const moved = before.state !== actor.state;
    const ended = actor.status !== 'active' && before.status === 'active';
    if (!moved && !ended) return null;
    const unwell = actor.tags.includes('degraded');
    const to = this.#paint(unwell ? 'yellow' : 'green', visible(actor.state));
    const move = moved ? `  ${before.state === '' ? '' : `${visible(before.state)} → `}${to}` : '';
    const end = ended ? `  ${this.#paint('yellow', visible(actor.status))}` : '';
    const cause = change.event === null ? null : causeText(change.event);
    const event = cause === null ? '' : `   ${this.#paint('dim', `(${visible(cause)})`)}`;
    return this.#once(actor, `${before.state}>${actor.state}>${actor.status}`, at, `${move}${end}${event}`);
  }

  /** Sessions come by the thousand and are told together, everything else by itself. */
  #once(actor: ActorView, what: string, at: number, text: string): string | null {
    const key = `${actor.name.includes(':') ? kindOf(actor.name) : actor.name}>${what}`;
    const last = this.#shown.get(key);
    if (last !== undefined && at - last.at < REPEAT_MS) {
      last.repeated++;
      return null;
    }
    if (this.#shown.size >= MAX_REPEATING) this.#shown.clear();
    this.#shown.set(key, { at, repeated: 0 });
    const repeated =
      last === undefined || last.repeated === 0
        ? ''
        : `   ${this.#paint('dim', `and ${last.repeated} times since ${clockText(last.at, this.#local)}`)}`;
    return `${lead(at, actor, this.#paint, this.#local)}${text}${repeated}\n`;
  }
}

function lead(at: number, actor: ActorView, paint: Paint, local: boolean): string {
  return `${paint('dim', clockText(at, local))} ${paint('bold', visible(actor.name))}`;
}

/** An event in the words of whoever looks on: XState's own name the whole path of what has ended. */
function causeText(event: string): string | null {
  if (event === 'xstate.init') return null;
  const own = /^xstate\.(done|error|after)\.(?:actor\.)?([^.]+)/.exec(event);
  if (own === null) return event;
  return own[1] === 'after' ? `after ${own[2]}` : own[1] === 'done' ? 'done' : 'failed';
}

/** Whoever is counted but has not announced itself hangs, which is what one looks for. */
function withSilent(
  actors: readonly ActorView[],
  figures: ReadonlyMap<string, FigureValues>,
): readonly ActorView[] {
  const names = new Set(actors.map(({ name }) => name));
  const root = actors.find(({ parentId }) => parentId === null)?.sessionId ?? null;
  const silent = [...figures].flatMap(([name, { answers }]): ActorView[] =>
    answers !== false || names.has(name)
      ? []
      : [
          {
            sessionId: `silent/${name}`,
            name,
            parentId: root,
            state: '?',
            status: 'active',
            tags: ['degraded'],
            numbers: [],
            isHelper: false,
          },
        ],
  );
  return [...actors.filter(({ isHelper }) => !isHelper), ...silent];
}

function rowsOf(actors: readonly ActorView[], figures: ReadonlyMap<string, FigureValues>): readonly Row[] {
  const known = new Set(actors.map(({ sessionId }) => sessionId));
  const children = new Map<string | null, ActorView[]>();
  for (const actor of actors) {
    const parent = actor.parentId !== null && known.has(actor.parentId) ? actor.parentId : null;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [actor]);
    else siblings.push(actor);
  }
  const rows: Row[] = [];
  const visit = (parent: string | null, indent: string) => {
    const siblings = [...(children.get(parent) ?? [])].sort(byName);
    children.delete(parent);
    siblings.forEach((actor, index) => {
      const last = index === siblings.length - 1;
      const branch = parent === null ? '' : last ? '└─ ' : '├─ ';
      const alarmed = actor.tags.filter((tag) => tag !== 'ready').map(visible);
      const state = visible(actor.state === '' ? actor.status : actor.state);
      rows.push({
        head: `${indent}${branch}${visible(actor.name)}`,
        kind: kindOf(actor.name),
        state: alarmed.length === 0 ? state : `${state} [${alarmed.join(' ')}]`,
        isUnwell: actor.tags.includes('degraded'),
        figures: figuresOf(actor, figures.get(actor.name)).map((figure) =>
          figure === null ? null : { ...figure, text: visible(figure.text) },
        ),
      });
      visit(actor.sessionId, parent === null ? '' : `${indent}${last ? '   ' : '│  '}`);
    });
  };
  visit(null, '');
  return rows;
}

/** `writer-2` before `writer-10`. Threads answer in any order; the eye wants the same one each time. */
const COLLATOR = new Intl.Collator('en', { numeric: true });

function byName(a: ActorView, b: ActorView): number {
  return COLLATOR.compare(a.name, b.name);
}

/** Columns stand beneath each other among actors of one kind only: others count other things. */
function columnWidths(rows: readonly Row[]): ReadonlyMap<string, number[]> {
  const widths = new Map<string, number[]>();
  for (const { kind, figures } of rows) {
    const kinds = widths.get(kind) ?? [];
    figures.forEach((figure, column) => {
      kinds[column] = Math.max(kinds[column] ?? 0, figure?.text.length ?? 0);
    });
    widths.set(kind, kinds);
  }
  return widths;
}

function clockText(ms: number, local: boolean): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return '--:--:--.---';
  const shifted = local ? new Date(ms - date.getTimezoneOffset() * 60_000) : date;
  return shifted.toISOString().slice(11, 23);
}
