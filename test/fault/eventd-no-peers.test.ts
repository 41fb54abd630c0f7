/** The kernel stops telling who a client is: queries are denied, ingestion does not notice (FAIL-28, FAIL-29). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords } from '../fixtures/eventdRecords.js';
import { HonestSenders } from '../fixtures/hostile.js';
import { ask } from '../fixtures/rawQueryClient.js';

/** Preloaded: SO_PEERCRED and SO_PEERGROUPS fail while the file NO_PEERS names exists. */
const SHIM = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
int getsockopt(int fd, int level, int name, void *value, socklen_t *length) {
  static __typeof__(&getsockopt) real;
  if (real == NULL) real = (__typeof__(&getsockopt))dlsym(RTLD_NEXT, "getsockopt");
  const char *mark = getenv("NO_PEERS");
  if (level == SOL_SOCKET && name == SO_PEERCRED && mark != NULL && access(mark, F_OK) == 0) {
    errno = EPERM;
    return -1;
  }
  return real(fd, level, name, value, length);
}
`;

test('[FAIL-28] [FAIL-29] [HOST-65] while callers cannot be told apart queries are denied, and events, logs and metrics are stored; afterwards queries resume', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const library = join(world.dir, 'no-peers.so');
  const source = join(world.dir, 'no-peers.c');
  const mark = join(world.dir, 'no-peers');
  writeFileSync(source, SHIM);
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
  const run = await world.start({ LD_PRELOAD: library, NO_PEERS: mark });
  const honest = new HonestSenders(world, new EventdRecords(world));
  const { querySocket } = world.paths;
  await honest.goesOn();
  assert.equal((await ask(querySocket, 'EVENTS TAKE 1')).records.length, 1);

  writeFileSync(mark, '');
  for (const query of ['EVENTS TAKE 1', 'LOGS TAKE 1', 'METRIC n[] TAKE 1', 'EVENTS STREAM', 'nonsense']) {
    const { error, records } = await ask(querySocket, query);
    assert.match(error ?? '', /^access denied: /, query);
    assert.deepEqual(records, []);
  }
  await honest.goesOn();

  rmSync(mark);
  await eventually(
    'queries resume',
    async () => (await ask(querySocket, 'LOGS TAKE 1')).records.length === 1,
  );
  await honest.allStored();
  assert.deepEqual(await run.end(), { code: 0, signal: null });
});
