/** `evctl inspect`: the states of eventd's actors, read from the debug socket. */
import { connect, type Socket } from 'node:net';
import { checkPath, connectionFailure } from '../wire/client.js';
import { type CommandContext, CommandFailure } from './context.js';
import { type ActorView, type InspectChange, InspectModel } from './inspectModel.js';
import { UsageError } from './options.js';
import { type Paint, visible } from './terminal.js';

/** The initial burst is over when nothing came for this long. */
const SILENCE_MS = 300;
/** Longest line accepted, in characters; the socket bounds what it writes far below. */
const MAX_LINE = 4 * 1024 * 1024;
/** Context numbers shown per actor in the tree. */
const MAX_NUMBERS = 4;

/** Context keys that tell most about an actor, most telling first; others follow in their order. */
const TELLING = [
  'cpu',
  'shard',
  'rows',
  'pending',
  'committed',
  'events',
  'gaps',
  'lost',
  'failures',
  'retries',
  'sessions',
];

/**
 * Prints the tree of actors, and with --follow every transition after it.
 * @throws {CommandFailure | ConnectionFailure | UsageError}
 */
export async function runInspect(context: CommandContext): Promise<void> {
  const { options, output, signal, paint } = context;
  if (options.positionals.length > 0) throw new UsageError('inspect takes no arguments');
  const follow = options.has('follow');
  const path = options.get('debug-socket') ?? '';
  checkPath(path);
  const model = new InspectModel();
  let treeShown = false;
  const showTree = () => {
    treeShown = true;
    return output.write(treeText(model.actors, paint));
  };
  for await (const change of changes(path, model, signal)) {
    if (change.kind === 'ready' && !treeShown) await showTree();
    else if (treeShown && follow) {
      const line = transitionLine(change, paint, options.has('local'));
      if (line !== null) await output.write(line);
    }
    if (treeShown && !follow) return;
  }
  if (!treeShown) await showTree();
  if (follow) throw new CommandFailure(`${path}: eventd closed the debug socket`);
}

/** Changes as they arrive; a pause in the initial burst counts as its end. */
async function* changes(
  path: string,
  model: InspectModel,
  signal: AbortSignal,
): AsyncGenerator<InspectChange, void, undefined> {
  const socket = connect({ path });
  const abort = () => socket.destroy();
  signal.addEventListener('abort', abort, { once: true });
  try {
    let ready = false;
    for await (const line of lines(socket, () => (ready ? null : SILENCE_MS))) {
      const change: InspectChange | null = line === null ? { kind: 'ready' } : model.line(line);
      if (change === null) continue;
      if (change.kind === 'ready') ready = true;
      yield change;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof Error && 'syscall' in error ? connectionFailure(path, error) : error;
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
  }
  signal.throwIfAborted();
}

/** Lines of a socket; null stands for a silence of the time that `silence` allows (null: any). */
async function* lines(
  socket: Socket,
  silence: () => number | null,
): AsyncGenerator<string | null, void, undefined> {
  const decoder = new TextDecoder();
  const chunks = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  let rest = '';
  let next = chunks.next();
  // A rejection while nobody waits must not count as unhandled; the await below still sees it.
  for (;;) {
    const limit = socket.connecting ? null : silence();
    const result = limit === null ? await next : await within(next, limit);
    if (result === null) {
      yield null;
      continue;
    }
    if (result.done === true) return;
    next = chunks.next();
    next.catch(() => undefined);
    const complete = (rest + decoder.decode(result.value, { stream: true })).split('\n');
    rest = complete.pop() ?? '';
    if (rest.length > MAX_LINE)
      throw new CommandFailure(`debug socket: line longer than ${MAX_LINE} characters`);
    yield* complete;
  }
}

/** The promise's value, or null when it takes longer than `ms`. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The actors as an indented tree, one line each; an actor whose parent is unknown stands at the left. */
export function treeText(actors: readonly ActorView[], paint: Paint): string {
  const known = new Set(actors.map((actor) => actor.sessionId));
  const children = new Map<string | null, ActorView[]>();
  for (const actor of actors) {
    const parent = actor.parentId !== null && known.has(actor.parentId) ? actor.parentId : null;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [actor]);
    else siblings.push(actor);
  }
  const rows: { readonly head: string; readonly actor: ActorView }[] = [];
  const visit = (parent: string | null, lead: string) => {
    const siblings = children.get(parent) ?? [];
    siblings.forEach((actor, index) => {
      const last = index === siblings.length - 1;
      const branch = parent === null ? '' : last ? '└─ ' : '├─ ';
      rows.push({ head: `${lead}${branch}${visible(actor.name)}`, actor });
      children.delete(parent);
      visit(actor.sessionId, parent === null ? '' : `${lead}${last ? '   ' : '│  '}`);
    });
  };
  visit(null, '');
  const width = Math.max(0, ...rows.map((row) => row.head.length));
  return rows
    .map((row) => `${row.head.padEnd(width)}  ${actorText(row.actor, paint)}`.trimEnd().concat('\n'))
    .join('');
}

function actorText(actor: ActorView, paint: Paint): string {
  const parts = [paint('green', visible(actor.state === '' ? actor.status : actor.state))];
  if (actor.tags.length > 0) parts.push(paint('yellow', `[${actor.tags.map(visible).join(' ')}]`));
  for (const [key, value] of importantNumbers(actor)) parts.push(paint('dim', `${visible(key)}=${value}`));
  return parts.join('  ');
}

function importantNumbers(actor: ActorView): readonly (readonly [string, string])[] {
  const rank = (key: string) => {
    const at = TELLING.indexOf(key);
    return at === -1 ? TELLING.length : at;
  };
  return [...actor.numbers].sort(([a], [b]) => rank(a) - rank(b)).slice(0, MAX_NUMBERS);
}

/** `12:00:01.123 writer-0  idle → committing   (batch.available)`, or null when no state changed. */
export function transitionLine(change: InspectChange, paint: Paint, local: boolean): string | null {
  if (change.kind === 'ready') return null;
  const time = paint('dim', clockText(change.at, local));
  const name = paint('bold', visible(change.actor.name));
  if (change.kind === 'actor')
    return `${time} ${name}  started${change.actor.state === '' ? '' : `: ${visible(change.actor.state)}`}\n`;
  const { before, actor } = change;
  const event = change.event === null ? '' : `   ${paint('dim', `(${visible(change.event)})`)}`;
  const moved = before.state !== actor.state;
  const ended = actor.status !== 'active' && before.status === 'active';
  if (!moved && !ended) return null;
  const move = moved ? `  ${visible(before.state)} → ${paint('green', visible(actor.state))}` : '';
  return `${time} ${name}${move}${ended ? `  ${paint('yellow', visible(actor.status))}` : ''}${event}\n`;
}

function clockText(ms: number, local: boolean): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return '--:--:--.---';
  const shifted = local ? new Date(ms - date.getTimezoneOffset() * 60_000) : date;
  return shifted.toISOString().slice(11, 23);
}
