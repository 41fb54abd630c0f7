import { EmitClient, EmitError } from '../kmesd/emitClient.js';
import { connectionFailure } from '../wire/client.js';
import type { Emitter } from './emitCommand.js';

/**
 * Opens kmesd's emit socket.
 * @throws {ConnectionFailure}
 */
export async function connectEmitter(path: string): Promise<Emitter> {
  let client: EmitClient;
  try {
    client = await EmitClient.connect(path);
  } catch (error) {
    throw connectionFailure(path, error);
  }
  return {
    async emitBatch(events) {
      try {
        return { emitted: await client.emitBatch(events), error: null };
      } catch (error) {
        if (error instanceof EmitError) return { emitted: error.emitted, error };
        throw error;
      }
    },
    close: () => client.close(),
  };
}
