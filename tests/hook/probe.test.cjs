'use strict';
// Runs the action of probe.yml as the runner does, with a stand-in for the prober. Run with `node --test tests/hook/`.
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const SCRIPT = path.join(__dirname, '..', '..', '.github', 'probe', 'run.cjs');

// The action's exit code and log, where the prober is this script; none where it was not built.
function run(body) {
  const workspace = fs.mkdtempSync(path.join(os.tmpdir(), 'probe test '));
  try {
    const folder = path.join(workspace, 'target/debug/examples');
    fs.mkdirSync(folder, { recursive: true });
    if (body) fs.writeFileSync(path.join(folder, 'probe'), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    const env = { PATH: process.env.PATH, GITHUB_WORKSPACE: workspace, ACTIONS_RUNTIME_TOKEN: 'runtime' };
    const { status, stdout } = spawnSync(process.execPath, [SCRIPT], { env, encoding: 'utf8' });
    return { status, log: stdout };
  } finally {
    fs.rmSync(workspace, { recursive: true });
  }
}

test('the prober gets the token, and its log and exit code are those of the step', () => {
  const body = 'test "$ACTIONS_RUNTIME_TOKEN" = runtime && echo "| ok |"';
  assert.deepEqual(run(body), { status: 0, log: '| ok |\n' });
  assert.deepEqual(run('echo no; exit 1'), { status: 1, log: 'no\n' });
});

test('a prober that is missing or was killed fails the step', () => {
  const { status, log } = run();
  assert.equal(status, 1);
  assert.match(log, /^::error title=probe::.*ENOENT.*cargo build --example probe$/m);
  assert.equal(run('kill -9 $$').status, 1);
});
