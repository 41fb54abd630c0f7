// Follows events as they are stored, until there have been three.
import { QueryFailure, tail } from 'eventd';

const events = tail('EVENTS demo.* TAKE 0');
await events.ready;
console.log('watching');
try {
  let seen = 0;
  for await (const event of events) {
    console.log(`${event.event_type} ${event.n}`);
    if (++seen === 3) break; // leaving the loop ends the stream
  }
} catch (error) {
  // Too slow for what comes: begin again after the last record you have.
  if (!(error instanceof QueryFailure && error.class === 'backpressure')) throw error;
  console.log('fell behind');
}
