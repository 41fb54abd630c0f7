import { Emitter as KmesEmitter } from '../wire/producers.js';
import type { Emitter } from './emitCommand.js';

/**
 * Opens kmesd's emit socket.
 * @throws {ConnectionFailure}
 */
export async function connectEmitter(path: string): Promise<Emitter> {
  const emitter = await KmesEmitter.open(path);
  return {
    emitBatch: (events) => emitter.emitEncoded(events),
    close: () => emitter.close(),
  };
}
