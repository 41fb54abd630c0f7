/** `evctl inspect`: the states of eventd's actors, read from the debug socket. */
import { connect, type Socket } from 'node:net';
import { checkPath, connectionFailure } from '../wire/client.js';
import { type CommandContext, CommandFailure, Interrupted } from './context.js';
import { indexesText } from './inspectIndexes.js';
import { InspectModel } from './inspectModel.js';
import { rollupsText } from './inspectRollups.js';
import { figuresLine, TransitionLines, treeText } from './inspectText.js';
import { UsageError } from './options.js';
import { Patience } from './patience.js';
import { escapeUnsafe } from './terminal.js';

/** The initial burst is over when nothing came for this long. */
const SILENCE_MS = 500;
/** Longest line accepted, in characters; the socket bounds what it writes far below. */
const MAX_LINE = 4 * 1024 * 1024;
/** With --follow, figures that change are shown this often, ms of the daemon's clock. */
const FIGURES_EVERY_MS = 5000;
/** Actors whose figures are worth a line of their own while one follows. */
const FOLLOWED = /^(reader|writer)-\d+$/;

/**
 * Prints the tree of actors, and with --follow every transition after it; with --json the lines of the
 * socket as they are.
 * @throws {CommandFailure | ConnectionFailure | UsageError}
 */
export async function runInspect(context: CommandContext): Promise<void> {
  const { options, output, signal } = context;
  const [what, ...rest] = options.positionals;
  const report = what === undefined ? treeText : REPORTS.get(what);
  if (rest.length > 0 || report === undefined)
    throw new UsageError('inspect takes one argument at most: indexes or rollups');
  if (what !== undefined && options.has('follow'))
    throw new UsageError(`inspect ${what} does not take --follow`);
  const path = options.get('debug-socket') ?? '';
  checkPath(path);
  const follow = options.has('follow');
  const patience = new Patience(context, path);
  const view = options.has('json') ? new RawView() : new TableView(context, report);
  try {
    // What comes after the first line has a rule of its own: silence ends the burst.
    const lines = linesOf(path, patience.signal, () => view.isReady);
    for await (const line of patience.watch(lines, false)) {
      const text = line === null ? view.ready() : view.line(line);
      if (view.refused !== null) throw new CommandFailure(`${path}: ${view.refused}`);
      if (text !== null) await output.write(text);
      if (view.isReady && !follow) return;
    }
    const text = view.ready();
    if (text !== null) await output.write(text);
  } catch (error) {
    // It has no other end: whoever followed has seen what there was to see.
    if (follow && signal.aborted && signal.reason instanceof Interrupted) return;
    throw error;
  }
  if (follow) throw new CommandFailure(`${path}: eventd closed the debug socket`);
}

/** What there is to see: the actors, or a table of its own. */
type Report = typeof treeText;

const REPORTS: ReadonlyMap<string, Report> = new Map([
  ['indexes', (_, figures, paint) => indexesText(figures, paint)],
  ['rollups', (_, figures, paint) => rollupsText(figures, paint)],
]);

/** What becomes of the lines. */
interface View {
  /** The initial burst is over. */
  readonly isReady: boolean;
  /** Why eventd does not let us read. */
  readonly refused: string | null;
  /** What to print for a line. */
  line(line: string): string | null;
  /** What to print when the burst is over, as far as it has not been printed. */
  ready(): string | null;
}

/** The lines themselves. */
class RawView implements View {
  readonly #model = new InspectModel();
  isReady = false;
  refused: string | null = null;

  line(line: string): string | null {
    const change = this.#model.line(line);
    if (change?.kind === 'refused') this.refused = change.reason;
    if (change?.kind === 'ready') this.isReady = true;
    return line === '' ? null : `${escapeUnsafe(line)}\n`;
  }

  ready(): null {
    this.isReady = true;
    return null;
  }
}

/** The table, then the transitions, and now and then what the busy ones count. */
class TableView implements View {
  readonly #model = new InspectModel();
  readonly #context: CommandContext;
  readonly #transitions: TransitionLines;
  readonly #local: boolean;
  /** The indexes instead of the actors. */
  readonly #report: Report;
  /** What was shown last of each actor's figures. */
  readonly #told = new Map<string, string>();
  #toldAt = 0;
  isReady = false;
  refused: string | null = null;

  constructor(context: CommandContext, report: Report) {
    this.#context = context;
    this.#report = report;
    this.#local = context.options.has('local');
    this.#transitions = new TransitionLines(context.paint, this.#local);
  }

  line(line: string): string | null {
    const change = this.#model.line(line);
    if (change === null) return null;
    if (change.kind === 'ready') return this.ready();
    if (change.kind === 'refused') this.refused = change.reason;
    if (!this.isReady) return null;
    return change.kind === 'figures' ? this.#figures(change.at) : this.#transitions.line(change);
  }

  ready(): string | null {
    if (this.isReady) return null;
    this.isReady = true;
    for (const [name, figures] of this.#model.figures) this.#told.set(name, JSON.stringify(figures));
    return this.#report(this.#model.actors, this.#model.figures, this.#context.paint);
  }

  #figures(at: number): string | null {
    if (at - this.#toldAt < FIGURES_EVERY_MS) return null;
    this.#toldAt = at;
    const lines = this.#model.actors.flatMap((actor) => {
      const figures = this.#model.figures.get(actor.name);
      if (figures === undefined || !FOLLOWED.test(actor.name)) return [];
      const text = JSON.stringify(figures);
      const isNews = this.#told.get(actor.name) !== text;
      this.#told.set(actor.name, text);
      return isNews ? [figuresLine(actor, figures, at, this.#context.paint, this.#local)] : [];
    });
    return lines.length === 0 ? null : lines.join('');
  }
}

/**
 * Lines of the debug socket as they arrive; null stands for a pause, which in the initial burst counts as
 * its end.
 */
export async function* linesOf(
  path: string,
  signal: AbortSignal,
  isReady: () => boolean,
): AsyncGenerator<string | null, void, undefined> {
  const socket = connect({ path });
  const abort = () => socket.destroy();
  signal.addEventListener('abort', abort, { once: true });
  try {
    yield* lines(socket, () => (isReady() ? null : SILENCE_MS));
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
