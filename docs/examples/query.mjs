// The newest events of one kind; what is missing is shown in its place.
import { isGap, query, toDate } from 'eventd';

for await (const event of query('EVENTS SINCE 1h ago TAKE 20')) {
  const time = toDate(event.timestamp).toISOString();
  if (isGap(event)) console.log(`${time} ${event.missing_count} events of CPU ${event.cpu_id} are lost`);
  else console.log(`${time} ${event.event_type} on CPU ${event.cpu_id}`);
}
