/** `evctl log ORIGIN [LINE...]`: sends lines to the log store. */
import { native } from '../native/addon.js';
import { LineSplitter } from '../wire/lineSplitter.js';
import { LogSender } from '../wire/recordSender.js';
import { type CommandContext, CommandFailure } from './context.js';
import { UsageError } from './options.js';
import { counted, DRAIN_MS, failWhenGone, GONE_MS, sendingProblem } from './sending.js';

/** @throws {CommandFailure | ConnectionFailure | UsageError} what to tell the user */
export async function runLog(context: CommandContext): Promise<void> {
  const { options, stdin, signal } = context;
  const [origin, ...lines] = options.positionals;
  if (origin === undefined || origin === '') throw new UsageError('log takes an ORIGIN, and lines or input');
  const sender = new LogSender({ path: options.get('log-socket') ?? '', origin });
  const isError = options.has('error');
  let sent = 0;
  const send = (found: readonly string[]) => {
    const timestamp = native.realtimeNs();
    for (const line of found) sender.log(line, { isError, timestamp });
    if (sent === 0 && found.length > 0 && !sender.flush()) failWhenGone(sender);
    sent += found.length;
  };
  try {
    if (lines.length > 0) send(lines.flatMap(linesOf));
    else await forward(stdin, signal, send, sender);
    signal.throwIfAborted();
    await sender.drain(DRAIN_MS, GONE_MS);
  } finally {
    sender.flush();
    sender.close();
  }
  if (sender.dropped === 0) return;
  const reason = sendingProblem(sender) ?? 'they came faster than eventd took them';
  throw new CommandFailure(`${sender.dropped} of ${counted(sent, 'line')} not sent: ${reason}`);
}

/** Sends the lines of `input` as they come, no faster than eventd takes them. */
async function forward(
  input: CommandContext['stdin'],
  signal: AbortSignal,
  send: (lines: readonly string[]) => void,
  sender: LogSender,
): Promise<void> {
  const splitter = new LineSplitter();
  const abort = () => input.destroy();
  signal.addEventListener('abort', abort, { once: true });
  try {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      send(splitter.push(chunk));
      await sender.room();
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
    send(splitter.end());
  }
}

/** An argument may hold several lines, and one that is too long. */
function linesOf(text: string): string[] {
  const splitter = new LineSplitter();
  return text === '' ? [''] : [...splitter.push(Buffer.from(text)), ...splitter.end()];
}
