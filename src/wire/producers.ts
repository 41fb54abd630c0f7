/** Ways to put something in: events through kmesd, log lines and samples through eventd's sockets. */
import { join } from 'node:path';
import { Encoder } from '../host/msgpack.js';
import { EmitClient, EmitError } from '../kmesd/emitClient.js';
import { connectionFailure } from './client.js';
import type { SenderOptions } from './datagramSender.js';
import { kmesDirectory, logSocket, metricSocket } from './defaults.js';
import { LogSender, MetricSender } from './recordSender.js';

/** Most events of one call (KMES-78). */
export const MAX_BATCH = 256;

/** What an event may carry; number becomes an integer where it is a whole one, bigint always does. */
export type PayloadValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PayloadValue[]
  | { readonly [key: string]: PayloadValue };

export interface EncodedEvent {
  readonly type: string;
  /** One msgpack value. */
  readonly payload: Uint8Array;
}

export interface EmitOutcome {
  /** Events that got through: all, or those before the first refused one (KMES-79). */
  readonly emitted: number;
  /** Why the next one did not; `code` is an errno name: EAGAIN (rate limit), EINVAL, ENOSPC, EPERM, ... */
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** A connection to kmesd, the embedded KMES for ordinary Linux. Calls may overlap. */
export class Emitter {
  readonly #client: EmitClient;
  readonly #encoder = new Encoder({ useBigInt64: true });

  private constructor(client: EmitClient) {
    this.#client = client;
  }

  /**
   * Connects to `emit.sock` in kmesd's directory: as given, else `$EVENTD_KMES_DIR`, else `/run/kmes`.
   * @throws {ConnectionFailure}
   * @example
   * const emitter = await Emitter.connect();
   * await emitter.emit('backup.finished', { volume: 'home', bytes: 81920 });
   * emitter.close();
   */
  static connect(options: { readonly directory?: string } = {}): Promise<Emitter> {
    return Emitter.open(join(kmesDirectory(options.directory), 'emit.sock'));
  }

  /** Connects to a socket by its path. */
  static async open(path: string): Promise<Emitter> {
    try {
      return new Emitter(await EmitClient.connect(path));
    } catch (error) {
      throw connectionFailure(path, error);
    }
  }

  /**
   * Emits one event.
   * @throws {EmitError} with the errno name in `code` when it is refused
   */
  async emit(type: string, payload: PayloadValue): Promise<void> {
    await this.#client.emit(type, this.#encoder.encode(payload));
  }

  /** Emits up to {@link MAX_BATCH} events under one time stamp, up to the first refused one. */
  async emitBatch(
    events: readonly { readonly type: string; readonly payload: PayloadValue }[],
  ): Promise<EmitOutcome> {
    return this.emitEncoded(
      events.map(({ type, payload }) => ({ type, payload: this.#encoder.encode(payload) })),
    );
  }

  /** The same with payloads that are msgpack already. */
  async emitEncoded(events: readonly EncodedEvent[]): Promise<EmitOutcome> {
    try {
      return { emitted: await this.#client.emitBatch(events), error: null };
    } catch (error) {
      if (error instanceof EmitError) return { emitted: error.emitted, error };
      throw error;
    }
  }

  /** Closes the connection; calls still waiting reject. */
  close(): void {
    this.#client.close();
  }
}

type Options = Partial<SenderOptions>;

/**
 * A sender of log lines: as `options.path` says, else `$EVENTD_LOG_SOCKET`, else `/run/eventd/log.sock`.
 * Sending never blocks and never throws for want of eventd: up to 1 MiB waits, then the oldest lines are
 * given up and counted in `dropped`.
 * @throws {ConnectionFailure} for a path that no socket can have
 * @example
 * const logs = openLog('thermostat');
 * logs.log('sensor 3 does not answer', { isError: true });
 * await logs.drain(2000);
 */
export function openLog(origin: string, options: Options = {}): LogSender {
  return new LogSender({ ...options, path: logSocket(options.path), origin });
}

/**
 * A sender of samples: as `options.path` says, else `$EVENTD_METRIC_SOCKET`, else `/run/eventd/metric.sock`.
 * It behaves as {@link openLog}'s does.
 * @throws {ConnectionFailure} for a path that no socket can have
 * @example
 * const metrics = openMetrics();
 * metrics.gauge('room.temperature', 21.5, { room: 'kitchen' });
 * await metrics.drain(2000);
 */
export function openMetrics(options: Options = {}): MetricSender {
  return new MetricSender({ ...options, path: metricSocket(options.path) });
}
