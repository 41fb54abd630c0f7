// Log lines and samples. Neither call waits, and neither fails for want of eventd.
import { openLog, openMetrics } from 'eventd';

const log = openLog('thermostat');
log.log('heating on');
log.log('sensor 3 does not answer', { isError: true });

const metrics = openMetrics();
metrics.gauge('room.temperature', 21.5, { room: 'kitchen' });
metrics.counter('heating.switched.total', 17);
metrics.histogram('sensor.latency', {
  boundaries: [0.1, 0.5, 1],
  counts: [20, 28, 30],
  totalCount: 31,
  sum: 6.25,
});

// Before the process ends: two seconds at most for what still waits.
await Promise.all([log.drain(2000), metrics.drain(2000)]);
console.log(`given up: ${log.dropped} lines, ${metrics.dropped} samples`);
