// Shared by the scripts that generate documentation: write the file, or check that it is up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/**
 * Writes `text` to `target`, or with `--check` compares it. `--out FILE` names another target.
 * Returns the exit code; when the check fails, says on standard error where and how to repair it.
 */
export function writeOrCheck(target, text, script) {
  const { values } = parseArgs({
    options: { check: { type: 'boolean', default: false }, out: { type: 'string' } },
  });
  const file = values.out ?? fileURLToPath(target);
  if (!values.check) {
    writeFileSync(file, text);
    return 0;
  }
  const found = readIfThere(file);
  if (found === text) return 0;
  const lines = text.split('\n');
  const foundLines = found?.split('\n') ?? [];
  const at = lines.findIndex((line, index) => line !== foundLines[index]);
  const where =
    found === null ? 'does not exist' : `differs from line ${(at < 0 ? lines.length : at) + 1} on`;
  console.error(`${file} is out of date (it ${where}); run: node scripts/${script}.mjs`);
  return 1;
}

function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
