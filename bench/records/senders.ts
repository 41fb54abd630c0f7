/** Load generators for eventd's datagram sockets: several processes that share a rate. */
import { dirname, join } from 'node:path';
import { addonPath } from '../../src/native/addon.js';
import { printed } from './processes.js';

const DGRAMLOAD = join(dirname(addonPath), 'dgramload');

export interface Load {
  readonly kind: 'log' | 'counter' | 'gauge' | 'histogram';
  /** Of all senders together; 0 = until the seconds are over. */
  readonly records: number;
  /** Records per second, of all senders together; 0 = as fast as possible. */
  readonly rate: number;
  /** Records per datagram. */
  readonly batch: number;
  readonly senders: number;
  /** Origins or series. */
  readonly series: number;
  /** Bytes of a log message. */
  readonly message?: number;
  readonly seconds?: number;
  /** Goes on with the next datagram when the queue is full. */
  readonly nonblock?: boolean;
}

/** What all of them sent. Times of one send, in us: the worst sender's. */
export interface Sent {
  readonly datagrams: number;
  readonly records: number;
  readonly again: number;
  readonly seconds: number;
  readonly p50us: number;
  readonly p99us: number;
  readonly p999us: number;
  readonly maxus: number;
}

/** Sends until everything is sent. Each sender sends the same number of whole datagrams. */
export async function send(path: string, load: Load): Promise<Sent> {
  const datagrams = Math.ceil(load.records / (load.batch * load.senders));
  const perSender = load.rate / (load.batch * load.senders);
  // The generator counts whole datagrams per second.
  const rate = load.rate === 0 ? 0 : Math.max(1, Math.round(perSender));
  const args = [
    path,
    ...['--kind', load.kind, '--datagrams', String(datagrams), '--rate', String(rate)],
    ...[
      '--batch',
      String(load.batch),
      '--series',
      String(load.series),
      '--message',
      String(load.message ?? 100),
    ],
    ...['--seconds', String(load.seconds ?? 0), '--stamped'],
    ...(load.nonblock === true ? ['--nonblock'] : []),
  ];
  const all = await Promise.all(Array.from({ length: load.senders }, () => printed<Sent>(DGRAMLOAD, args)));
  const sum = (of: (sent: Sent) => number) => all.reduce((total, sent) => total + of(sent), 0);
  const most = (of: (sent: Sent) => number) => Math.max(...all.map(of));
  return {
    datagrams: sum(({ datagrams }) => datagrams),
    records: sum(({ records }) => records),
    again: sum(({ again }) => again),
    seconds: most(({ seconds }) => seconds),
    p50us: most(({ p50us }) => p50us),
    p99us: most(({ p99us }) => p99us),
    p999us: most(({ p999us }) => p999us),
    maxus: most(({ maxus }) => maxus),
  };
}
