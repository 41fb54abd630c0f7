// Events of your own, through kmesd, the embedded KMES for ordinary Linux.
import { EmitError, Emitter } from 'eventd';

const emitter = await Emitter.connect();
await emitter.emit('demo.backup', { volume: 'home', bytes: 81920, id: 18446744073709551615n });

// Up to 256 under one time stamp; the first bad one ends the batch.
const { emitted, error } = await emitter.emitBatch([
  { type: 'demo.step', payload: { n: 1 } },
  { type: '', payload: { n: 2 } },
]);
console.log(`${emitted} emitted, then ${error?.code}`);

try {
  await emitter.emit('demo.big', 'x'.repeat(100_000));
} catch (failure) {
  if (!(failure instanceof EmitError)) throw failure;
  console.log(`too big: ${failure.code}`);
}
emitter.close();
