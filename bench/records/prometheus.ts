/** What a Linux user has instead of the metric path: Prometheus, fed by remote write. */

import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { bytesBelow, cpuSeconds, installed, Peer } from './processes.js';
import { writeRequest } from './remoteWrite.js';
import type { Figure } from './report.js';

export interface Samples {
  readonly samples: number;
  readonly series: number;
  /** Connections; the series are shared out among them, because those of one must come in order. */
  readonly senders: number;
}

/** Stores so many samples in a fresh directory. @throws Error when it did not store them all */
export type SamplePeer = (directory: string, samples: Samples) => Promise<Figure>;

/** What Prometheus' own senders put into a request by default. */
const SAMPLES_PER_REQUEST = 2000;
/** All samples of a series lie within this time, ms: the head block takes them without compaction. */
const SPAN_MS = 900_000;
const DEADLINE_MS = 30_000;

/** Null when it is not installed. Requests are encoded before the clock starts. */
export function prometheus(): SamplePeer | null {
  const program = installed('prometheus');
  if (program === null) return null;
  return async (directory, wanted) => {
    const config = join(directory, 'prometheus.yml');
    writeFileSync(config, 'global: {}\n');
    const port = await freePort();
    const data = join(directory, 'data');
    const requests = Array.from({ length: wanted.senders }, (_, sender) => requestsOf(wanted, sender));
    const peer = new Peer(program, [
      `--config.file=${config}`,
      `--storage.tsdb.path=${data}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--web.enable-remote-write-receiver',
      '--log.level=error',
    ]);
    try {
      await ready(port, peer);
      const cpuBefore = cpuSeconds(peer.pid);
      const started = performance.now();
      await Promise.all(requests.map((bodies) => post(port, bodies)));
      const seconds = (performance.now() - started) / 1000;
      const cpu = cpuSeconds(peer.pid) - cpuBefore;
      const stored = appended((await get(port, '/metrics')).body);
      if (stored !== wanted.samples)
        throw new Error(`Prometheus stored ${stored} of ${wanted.samples} samples`);
      await peer.stop();
      return {
        perSecond: stored / seconds,
        cpuMicros: (cpu / stored) * 1e6,
        bytesPerRecord: bytesBelow(data) / stored,
      };
    } finally {
      await peer.stop();
    }
  };
}

/** The requests of one sender: its share of the series, round after round. */
function requestsOf({ samples, series, senders }: Samples, sender: number): Buffer[] {
  const own = Array.from({ length: series }, (_, number) => number).filter(
    (number) => number % senders === sender,
  );
  if (own.length === 0) return [];
  const perSeries = Math.ceil(samples / series);
  const perRequest = Math.max(1, Math.floor(SAMPLES_PER_REQUEST / own.length));
  const stepMs = Math.max(1, Math.floor(SPAN_MS / perSeries));
  const start = Date.now() - SPAN_MS;
  const bodies: Buffer[] = [];
  for (let round = 0; round < perSeries; round += perRequest) {
    const rounds = Array.from({ length: Math.min(perRequest, perSeries - round) }, (_, i) => round + i);
    for (let at = 0; at < own.length; at += SAMPLES_PER_REQUEST) {
      const part = own.slice(at, at + SAMPLES_PER_REQUEST).map((number) => ({
        labels: { __name__: 'load_level', series: String(number) },
        samples: rounds
          .filter((at) => at * series + number < samples)
          .map((at) => ({ value: at * series + number, timestampMs: start + at * stepMs })),
      }));
      bodies.push(writeRequest(part.filter(({ samples }) => samples.length > 0)));
    }
  }
  return bodies;
}

async function post(port: number, bodies: readonly Buffer[]): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const headers = {
    'Content-Type': 'application/x-protobuf',
    'Content-Encoding': 'snappy',
    'X-Prometheus-Remote-Write-Version': '0.1.0',
  };
  try {
    for (const body of bodies) {
      const { status, body: answer } = await exchange(
        { port, path: '/api/v1/write', method: 'POST', agent, headers },
        body,
      );
      if (status !== 204) throw new Error(`Prometheus answered ${status}: ${answer.trim()}`);
    }
  } finally {
    agent.destroy();
  }
}

function get(port: number, path: string) {
  return exchange({ port, path, method: 'GET' }, null);
}

function exchange(
  options: { port: number; path: string; method: string; agent?: Agent; headers?: Record<string, string> },
  body: Buffer | null,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = {
      ...options.headers,
      ...(body === null ? {} : { 'Content-Length': String(body.length) }),
    };
    const call = request({ host: '127.0.0.1', ...options, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    call.on('error', reject);
    call.end(body ?? undefined);
  });
}

async function ready(port: number, peer: Peer): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    peer.check();
    const status = await get(port, '/-/ready').then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 200) return;
    if (performance.now() > deadline) throw new Error('Prometheus does not become ready');
    await pause(50);
  }
}

/** Samples in the head block, by Prometheus' own count; nothing else writes to it here. */
function appended(metrics: string): number {
  const lines = metrics.matchAll(/^prometheus_tsdb_head_samples_appended_total(?:\{[^}]*\})? (\S+)$/gm);
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
