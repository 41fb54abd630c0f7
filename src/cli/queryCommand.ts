/** `evctl 'QUERY'`: runs a query and writes its records. */
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { type EventRecord, QueryFailure, query } from '../wire/client.js';
import { type CommandContext, CommandFailure } from './context.js';
import { jsonLine } from './jsonl.js';
import { UsageError } from './options.js';
import { PrettyPrinter } from './pretty.js';
import { visible } from './terminal.js';

/** The largest MaxQueryMessageBytes (WIRE-3): no eventd takes a longer query. */
const MAX_QUERY_BYTES = 16 * 1024 * 1024;

/**
 * Runs the query and writes records as they come.
 * @throws {CommandFailure | UsageError} what to tell the user
 */
export async function runQuery(context: CommandContext): Promise<void> {
  const { options, output, signal } = context;
  const text = await queryText(context);
  if (text.trim() === '') throw new UsageError('the query is empty');
  const format = formatter(context);
  try {
    for await (const record of query(options.get('socket') ?? '', text, { signal }))
      await output.write(format(record));
  } catch (error) {
    // What came before the error belongs before it on the screen too.
    if (!signal.aborted) await output.flush();
    throw error instanceof QueryFailure ? failure(error, text) : error;
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
  return Buffer.concat(chunks).toString('utf8').trimEnd();
}

function formatter(context: CommandContext): (record: EventRecord) => string | Uint8Array {
  switch (context.options.get('format')) {
    case 'jsonl':
      return jsonLine;
    case 'msgpack':
      if (context.terminal) throw new UsageError('msgpack is not for terminals; redirect standard output');
      return (record) => record.raw;
    default: {
      const printer = new PrettyPrinter({ paint: context.paint, local: context.options.has('local') });
      return (record) => printer.line(record);
    }
  }
}

function failure(error: QueryFailure, text: string): CommandFailure {
  return new CommandFailure(error.message, error.position === null ? [] : caretLines(text, error.position));
}

/** Width around the caret; a query of one long line is shown in part. */
const CARET_CONTEXT = 70;

/** The query line that holds the 1-based character `position`, and a caret beneath that character. */
export function caretLines(text: string, position: number): readonly string[] {
  const characters = [...text];
  const at = Math.min(Math.max(position - 1, 0), characters.length);
  const start = characters.lastIndexOf('\n', at - 1) + 1;
  const newline = characters.indexOf('\n', at);
  const end = newline === -1 ? characters.length : newline;
  const from = Math.max(start, at - CARET_CONTEXT);
  const to = Math.min(end, at + CARET_CONTEXT);
  const shown = (part: readonly string[]) => visible(part.join('').replaceAll('\t', ' '));
  const before = (from > start ? '…' : '') + shown(characters.slice(from, at));
  const after = shown(characters.slice(at, to)) + (to < end ? '…' : '');
  return [`  ${before}${after}`, `  ${' '.repeat([...before].length)}^`];
}
