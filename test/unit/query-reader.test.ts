/** What a stream decides as names and fields come up: each once, and not without bound. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  MAX_DECIDED_CHARACTERS,
  MAX_DECIDED_FIELDS,
  MAX_DECIDED_NAMES,
  MAX_DECIDED_VERDICTS,
  MAX_LISTED_CHARACTERS,
} from '../../actors/query/decisionLimit.js';
import { type Ask, QueryReader, type ReadQuery } from '../../actors/query/readAccess.js';
import { AccessSession } from '../../src/access/accessSession.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { QueryError } from '../../src/query/errors.js';
import { parseQuery } from '../../src/query/parser.js';
import type { PlanCondition } from '../../src/query/plan.js';
import type { Found } from '../../src/query/survey.js';
import { CountingCaller, FakeSecurity, patternsOf, tell, userToken } from '../fixtures/access.js';

const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const OPEN = 'O:SYG:SYD:(A;;0x1;;;AU)';
const CLOSED = 'O:SYG:SYD:(A;;0x1;;;SY)';
const WITHOUT_X = `O:SYG:SYD:(OD;;0x1;${guid('x')};;AU)(A;;0x1;;;AU)`;

/** Tells fields apart, and shows none of them. */
const HIDING = `O:SYG:SYD:(OD;;0x1;${guid('x')};;AU)(A;;0x1;;;SY)`;

/** A stream's reader, over a store that holds nothing when it begins. */
async function reading(text: string, values: Readonly<Record<string, string>>, ask: Ask = async () => []) {
  const security = new FakeSecurity();
  for (const [path, sddl] of Object.entries({ 'Events\\*': CLOSED, ...values })) security.set(path, sddl);
  const patterns = await patternsOf(security);
  const caller = new CountingCaller(userToken());
  const session = await AccessSession.open(caller, patterns);
  /** How many names were asked about, request by request. */
  const asked: number[] = [];
  const readable = session.readable.bind(session);
  session.readable = (type, present, ...rest) => {
    asked.push(present.size);
    return readable(type, present, ...rest);
  };
  const reader = new QueryReader(session, parseQuery(text) as ReadQuery, 1_000_000n, ask);
  const change = (path: string, sddl: string) => tell(patterns, security.set(path, sddl));
  return { reader, caller, session, asked, change };
}

const named = (from: number, to: number, prefix = 'open.'): Found =>
  Array.from({ length: to - from }, (_, index) => [`${prefix}${from + index}`, []]);

/** Names that a condition lets through, in the one IN that a plain stream has. */
function namesIn(condition: PlanCondition | null): readonly unknown[] {
  return condition?.kind === 'in' ? condition.values : [];
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'allowed';
  } catch (error) {
    assert.ok(error instanceof QueryError);
    return error.text;
  }
}

test('[ACL-49] [ACL-50] a stream decides about the names that are new, and keeps what was decided', async () => {
  const { reader, caller, session, asked, change } = await reading('EVENTS STREAM', { 'Events\\open': OPEN });
  await reader.decide();
  for (let batch = 0; batch < 5; batch++) await reader.decideAgain(named(batch * 100, batch * 100 + 100));
  assert.deepEqual(asked, [0, 100, 100, 100, 100, 100]);
  const last = await reader.decideAgain([['closed', []]]);
  assert.equal(namesIn(last.restrict(null)).length, 500);
  assert.equal(last.decided?.names.size, 501);
  // Descriptors that changed and checks that failed: about all of them, with checks of what changed alone.
  const { length } = caller.requests;
  change('Events\\open.7', CLOSED);
  assert.equal(namesIn((await reader.decideAgain([])).restrict(null)).length, 499);
  assert.deepEqual(asked.slice(6), [1, 501]);
  // Those of the patterns, as far as they are needed, and of the one name.
  assert.ok(caller.requests.length <= length + 4, `${caller.requests.length - length} checks`);
  caller.failing = true;
  assert.equal(namesIn((await reader.decideAgain([['open.last', []]])).restrict(null)).length, 499);
  caller.failing = false;
  assert.equal(namesIn((await reader.decideAgain([])).restrict(null)).length, 499);
  session.retryFailed();
  assert.equal(namesIn((await reader.decideAgain([])).restrict(null)).length, 500);
  assert.deepEqual(asked.slice(8), [1, 0, 502]);
});

test('[ACL-44] [ACL-50] new fields of a known name are decided about with those it had', async () => {
  const { reader, caller } = await reading('EVENTS WHERE x IS NULL SELECT y, z STREAM', {
    'Events\\hush': WITHOUT_X,
  });
  await reader.decide();
  const first = await reader.decideAgain([['hush', [['y']]]]);
  assert.deepEqual([...(first.decided?.names.get('hush') ?? [])], ['["y"]']);
  const second = await reader.decideAgain([['hush', [['z', 'deep'], ['x']]]]);
  assert.deepEqual([...(second.decided?.names.get('hush') ?? [])], ['["y"]', '["z","deep"]', '["x"]']);
  const shown = Buffer.from(second.shown ?? []).toString('latin1');
  assert.match(shown, /y.*z\.deep/s);
  assert.doesNotMatch(shown, /\xa1x/);
  // Where the check of all of them fails, none is shown: no record is let through.
  assert.equal(second.restrict(null)?.kind, 'in');
  caller.failing = true;
  const third = await reader.decideAgain([['hush', [['more']]]]);
  assert.deepEqual([third.restrict(null)?.kind, third.decided?.names.size], ['null', 1]);
});

test('[ACL-50] [QL-21] new fields of a name count for the spelling that was asked for, and for all others', async () => {
  const stored = async (text: string, sddl: string) => {
    const { reader } = await reading(text, { 'Events\\foo': sddl }, async (survey) =>
      survey.kind === 'fields'
        ? [['Foo', [['a']]]]
        : [
            ['Foo', []],
            ['foo', []],
          ],
    );
    await reader.decide();
    return { reader, access: await reader.decideAgain([['Foo', [['f']]]]) };
  };
  const hasShown = (shown: Uint8Array | null) => Buffer.from(shown ?? []).toString('latin1');
  const { reader, access } = await stored('EVENTS foo STREAM', WITHOUT_X);
  assert.deepEqual([...(access.decided?.names.keys() ?? [])], ['foo']);
  assert.deepEqual([...(access.decided?.names.get('foo') ?? [])], ['["a"]', '["f"]']);
  assert.match(hasShown(access.shown), /\xa1a.*\xa1f/s);
  const third = await reader.decideAgain([['FOO', [['g']]]]);
  assert.match(hasShown(third.shown), /\xa1a.*\xa1f.*\xa1g/s);
  // Spellings that are audited each have the fields of all: SQL and what is shown know them as one.
  const audited = await stored('EVENTS fo* STREAM', `${WITHOUT_X}S:(AU;SA;0x1;;;WD)`);
  assert.deepEqual([...(audited.access.decided?.names.keys() ?? [])], ['Foo', 'foo']);
  for (const fields of audited.access.decided?.names.values() ?? []) {
    assert.deepEqual([...(fields ?? [])], ['["a"]', '["f"]']);
  }
  assert.match(hasShown(audited.access.shown), /\xa1a.*\xa1f/s);
});

test('[ACL-40] [ACL-42] a check that failed is made again though its verdict was forgotten since', async () => {
  const { reader, caller, session } = await reading('EVENTS STREAM', { 'Events\\open': OPEN });
  await reader.decide();
  caller.failsOn = 'events:open.first';
  assert.deepEqual(namesIn((await reader.decideAgain([['open.first', []]])).restrict(null)), []);
  caller.failsOn = null;
  const long = `open.${'x'.repeat(150_000)}`;
  for (let name = 0; name < 30; name++) await session.visibility('events', `${long}${name}`);
  assert.equal(session.hasFailed, true);
  session.retryFailed();
  assert.deepEqual(namesIn((await reader.decideAgain([])).restrict(null)), ['open.first']);
});

test('[ACL-33] [ACL-34] a new name that denies the order of a stream is left out of it, and no other is', async () => {
  const values = { 'Events\\open': OPEN, 'Events\\hush': WITHOUT_X, 'Events\\shut': HIDING };
  const { reader } = await reading('EVENTS SORT x STREAM', values);
  await reader.decide();
  const access = await reader.decideAgain([
    ['open.a', []],
    ['hush', []],
    ['open.b', []],
  ]);
  assert.deepEqual(namesIn(access.restrict(null)), ['open.a', 'open.b']);
  assert.equal(access.decided?.names.has('hush'), true);
  // With records in the time range it makes a refusal.
  const there = await reading('EVENTS SORT x STREAM', values, async () => [['HUSH', []]]);
  assert.match(await refusal(there.reader.decide()), /^access denied: .* by x$/);
});

test('[ACL-50] whom nothing is shown has nothing decided about, whatever comes', async () => {
  const { reader, caller, change } = await reading('EVENTS STREAM', {});
  const access = await reader.decide();
  assert.deepEqual([access.decided, namesIn(access.restrict(null))], [null, []]);
  assert.equal(caller.requests.length, 1);
  change('Events\\open', OPEN);
  const opened = await reader.decideAgain([]);
  assert.equal(opened.decided?.names.size, 0);
  assert.deepEqual(namesIn((await reader.decideAgain([['open', []]])).restrict(null)), ['open']);
});

test('[ACL-50] a stream ends at so many names, fields or characters to decide about, its query as well', async () => {
  const limit = (text: string, noun = 'type') =>
    `limit exceeded: the stream meets ${text}, and what its caller may see is decided for each; name the ${noun}s`;
  const values = { 'Events\\open': OPEN, 'Events\\hush': WITHOUT_X, 'Logs\\*': CLOSED, 'Logs\\open': OPEN };
  const { reader } = await reading('EVENTS STREAM', values);
  await reader.decide();
  const all = await reader.decideAgain(named(0, MAX_DECIDED_NAMES));
  assert.equal(namesIn(all.restrict(null)).length, MAX_DECIDED_NAMES);
  const tooMany = limit(`more than ${MAX_DECIDED_NAMES} types`);
  assert.equal(await refusal(reader.decideAgain([['one.more', []]])), tooMany);

  const found = named(0, MAX_DECIDED_NAMES + 1, 'closed.');
  const deciding = async (text: string) => (await reading(text, values, async () => found)).reader.decide();
  assert.equal(await refusal(deciding('EVENTS STREAM')), tooMany);
  const origins = limit(`more than ${MAX_DECIDED_NAMES} origins`, 'origin');
  assert.equal(await refusal(deciding('LOGS STREAM')), origins);

  const wide = await reading('EVENTS STREAM', values);
  await wide.reader.decide();
  const fields = Array.from({ length: MAX_DECIDED_FIELDS + 1 }, (_, index) => [`f${index}`]);
  const tooWide = limit(`more than ${MAX_DECIDED_FIELDS} fields of types`);
  assert.equal(await refusal(wide.reader.decideAgain([['hush', fields]])), tooWide);

  const long = await reading('EVENTS STREAM', values);
  await long.reader.decide();
  const tooLong = limit(`types and fields of more than ${MAX_DECIDED_CHARACTERS} characters`);
  const name = 'x'.repeat(MAX_DECIDED_CHARACTERS + 1);
  assert.equal(await refusal(long.reader.decideAgain([[name, []]])), tooLong);
});

test('[QX-5] a query that ends reads however many names there are', async () => {
  const found = named(0, MAX_DECIDED_NAMES + 1);
  const { reader } = await reading('EVENTS COUNT', { 'Events\\open': OPEN }, async () => found);
  assert.equal(namesIn((await reader.decide()).restrict(null)).length, found.length);
});

/** Names that have a field of their own each. */
const apart = (from: number, to: number, prefix = 'hush.'): Found =>
  Array.from({ length: to - from }, (_, index) => [`${prefix}${from + index}`, [[`own${from + index}`]]]);
const testing = (fields: number) =>
  Array.from({ length: fields }, (_, index) => `f${index} == 1`).join(' OR ');

test('[ACL-42] [ACL-44] [ACL-50] a query is given so many verdicts on what its caller sees', async () => {
  const limit = (text: string) =>
    `limit exceeded: what the caller may see takes ${text}; name the types, or test fewer fields`;
  const tooMany = limit(`more than ${MAX_DECIDED_VERDICTS} verdicts on types and their fields`);
  const values = { 'Events\\open': OPEN, 'Events\\hush': WITHOUT_X, 'Events\\shut': HIDING };
  const { reader } = await reading(`EVENTS WHERE ${testing(999)} STREAM`, values);
  await reader.decide();
  const most = Math.floor(MAX_DECIDED_VERDICTS / (999 + 9 + 1));
  await reader.decideAgain(apart(0, most - 1));
  assert.notEqual((await reader.decideAgain(apart(most - 1, most))).decided, null);
  assert.equal(await refusal(reader.decideAgain(apart(most, most + 1))), tooMany);

  // So does a query that ends, whose conditions hold the other names as well: where no fields matter, however many.
  const found: Found = [...apart(0, 1), ...named(0, most * 2)];
  const deciding = async (text: string, names = found) =>
    refusal((await reading(text, values, async () => names)).reader.decide());
  assert.equal(await deciding(`EVENTS WHERE ${testing(999)}`), tooMany);
  assert.equal(await deciding(`EVENTS WHERE ${testing(999)}`, found.slice(1)), 'allowed');
  assert.equal(await deciding('EVENTS'), 'allowed');

  // What is hidden counts nothing, or a caller who chooses how much a name counts could find it out.
  const hidden = apart(0, 100, 'shut.');
  assert.equal(await deciding(`EVENTS WHERE ${testing(999)}`, [...hidden, ...found.slice(1)]), 'allowed');
  const nearly = [...apart(0, 1), ...named(0, 200)];
  assert.equal(await deciding(`EVENTS WHERE ${testing(999)}`, [...hidden, ...nearly]), 'allowed');

  // A condition on a field holds names, and what a name shows holds fields, however long they are.
  const tooLong = limit(`types and fields of more than ${MAX_LISTED_CHARACTERS} characters`);
  const name = `hush.${'x'.repeat(MAX_LISTED_CHARACTERS / 1000)}`;
  assert.equal(await deciding(`EVENTS WHERE ${testing(1000)}`, [[name, []]]), tooLong);
  const field = 'f'.repeat(MAX_LISTED_CHARACTERS / 1000);
  assert.equal(await deciding(`EVENTS WHERE ${field} == 1`, apart(0, 1000)), tooLong);

  // Conditions about other stores hold them too, all together.
  const each = MAX_LISTED_CHARACTERS / 16;
  const filters = 'LOGS SINCE 1h ago WHERE EVENT open.* EXISTS';
  const long: Found = Array.from({ length: 16 }, (_, index) => [`open.${index}`.padEnd(each, 'x'), []]);
  assert.equal(await deciding(filters, long), 'allowed');
  assert.equal(await deciding(`${filters} OR EVENT open.x EXISTS`, long), tooLong);
});
