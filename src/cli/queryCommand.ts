/** `evctl 'QUERY'`: runs a query and writes its records. */
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { ConnectionFailure, type EventRecord, QueryFailure, queryMessages } from '../wire/client.js';
import { csvColumns, knownColumns } from './columns.js';
import { type CommandContext, CommandFailure, EXIT, Interrupted } from './context.js';
import { CsvWriter } from './csv.js';
import { jsonLine } from './jsonl.js';
import { UsageError } from './options.js';
import { Pager, pagerCommand } from './pager.js';
import { Past } from './past.js';
import { Patience } from './patience.js';
import { PrettyPrinter } from './pretty.js';
import { type Ask, composeQuery, refusal } from './queryText.js';
import { StreamedTable, TablePrinter } from './table.js';

/** The largest MaxQueryMessageBytes (WIRE-3): no eventd takes a longer query. */
const MAX_QUERY_BYTES = 16 * 1024 * 1024;

/** Turns result messages into what is written. */
interface RecordWriter {
  message(records: readonly EventRecord[]): Iterable<string | Uint8Array> | string;
  /** What stands at the end of a whole result. */
  end?(): string;
}

/**
 * Runs the query and writes records as they come.
 * @throws {CommandFailure | UsageError} what to tell the user
 */
export async function runQuery(context: CommandContext): Promise<void> {
  const { options, output, signal } = context;
  const text = await queryText(context);
  if (text.trim() === '') throw new UsageError('the query is empty');
  const ask = composeQuery(text, options);
  if (options.has('explain')) return (await import('./explain.js')).runExplain(context, ask);
  const path = options.get('socket') ?? '';
  const patience = new Patience(context, path);
  const writer = await writerFor(context, ask);
  if (ask.stream) output.bePatient();
  else page(context);
  const past = ask.turnPast ? new Past() : null;
  const show = async (messages: Iterable<readonly EventRecord[]>) => {
    for (const records of messages) await write(context, writer.message(records));
  };
  try {
    const messages = queryMessages(path, ask.text, { signal: patience.signal });
    for await (const records of patience.watch(messages, !ask.stream))
      await show(past?.add(records) ?? [records]);
    await write(context, writer.end?.() ?? '');
  } catch (error) {
    // A stream has no other end: whoever followed it has seen what there was to see.
    if (ask.stream && signal.aborted && signal.reason instanceof Interrupted) return;
    // What came before the error belongs before it on the screen too.
    if (!signal.aborted) {
      await show(past?.end() ?? []);
      await output.flush();
    }
    throw failure(error, ask);
  }
}

async function queryText(context: CommandContext): Promise<string> {
  const { options, stdin, signal } = context;
  const { positionals } = options;
  const file = options.get('file');
  if (file !== undefined) {
    if (positionals.length > 0) throw new UsageError('either a query or --file, not both');
    return readText(createReadStream(file, { signal }), file);
  }
  const [first, ...others] = positionals;
  if (first === undefined) throw new UsageError('a query is missing');
  if (others.length > 0) throw new UsageError('one query expected; put it in quotes');
  return first === '-' ? readText(stdin, 'standard input') : first;
}

async function readText(stream: Readable, name: string): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_QUERY_BYTES)
        throw new CommandFailure(`${name}: query is longer than ${MAX_QUERY_BYTES} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && 'syscall' in error)
      throw new CommandFailure(`${name}: cannot be read (${error.code})`);
    throw error;
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)).trimEnd();
  } catch {
    // Replaced characters would be looked for, and not found (QL-9).
    throw new CommandFailure(`${name}: query is not valid UTF-8`, [], EXIT.usage);
  }
}

async function writerFor(context: CommandContext, { query, stream }: Ask): Promise<RecordWriter> {
  const { options, paint, terminal } = context;
  const format = options.get('format');
  if (options.has('chart')) {
    if (format !== 'pretty') throw new UsageError('--chart: draws; it goes with no other --format');
    if (query?.mode !== 'METRIC') throw new UsageError('--chart: only samples can be drawn, ask for METRIC');
    const { ChartWriter } = await import('./chart.js');
    return new ChartWriter(context);
  }
  switch (format) {
    case 'jsonl':
      return { message: (records) => records.map(jsonLine).join('') };
    case 'msgpack':
      if (terminal) throw new UsageError('msgpack is not for terminals; redirect standard output');
      return { message: (records) => records.map(({ raw }) => raw) };
    case 'csv':
      return new CsvWriter(csvColumns(query, stream), terminal);
    default: {
      const look = { paint, local: options.has('local'), full: options.has('full') };
      const lines = new PrettyPrinter(look);
      const known = knownColumns(query);
      if (known?.grouped !== true) return lines;
      const table = new TablePrinter(known.names, look);
      return stream ? new StreamedTable(table, lines) : table;
    }
  }
}

function page({ options, output, env, stdout, terminal }: CommandContext): void {
  const command = pagerCommand(env);
  if (terminal && command !== null && !options.has('no-pager')) output.page(new Pager(command, env, stdout));
}

async function write(
  { output }: CommandContext,
  pieces: Iterable<string | Uint8Array> | string,
): Promise<void> {
  if (typeof pieces !== 'string') for (const piece of pieces) await output.write(piece);
  else if (pieces !== '') await output.write(pieces);
}

/** The error as it is told; how a stream ended is put into words. */
function failure(error: unknown, { text, stream }: Ask): unknown {
  if (error instanceof QueryFailure) {
    if (error.class === 'backpressure')
      return new CommandFailure(
        `the stream was dropped because it was not read fast enough (${error.message})`,
      );
    if (error.class === 'shutting down' && stream)
      return new CommandFailure(`the stream ended because eventd stops (${error.message})`);
    return refusal(error, text);
  }
  if (stream && error instanceof ConnectionFailure && error.code === 'CLOSED')
    return new CommandFailure(
      `${error.path}: eventd closed the stream without a word: it ended, or the stream was not read fast enough`,
    );
  return error;
}
