// What can go wrong, and how to tell.
import { ConnectionFailure, QueryFailure, query } from 'eventd';

async function ask(text) {
  try {
    const rows = [];
    // Whatever takes longer than five seconds is cancelled, in eventd, too.
    for await (const row of query(text, { signal: AbortSignal.timeout(5000) })) rows.push(row);
    return `${rows.length} records`;
  } catch (error) {
    if (error instanceof QueryFailure) return `${error.class} at ${error.position}: ${error.detail}`;
    if (error instanceof ConnectionFailure) return `no eventd: ${error.code}`;
    return `gave up: ${error.name}`;
  }
}

console.log(await ask('EVENTS TAKE 3'));
console.log(await ask('EVENTS TAKE three'));
