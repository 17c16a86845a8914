'use strict';
// Runs the hook as the runner does: as a process of its own, with the runner's variables and files, beside a stand-in for
// the binary that writes down how it was called. Run with `node --test tests/hook/`.
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { afterEach, test } = require('node:test');

const HOOK = path.join(__dirname, '..', '..', 'hook');
const TOKEN = 'ghs_0123456789abcdefghijklmnopqrstuvwxyz';
const JOB_TOKEN = 'ghs_theJobsOwnTokenxxxxxxxxxxxxxxxxxxxxx';
const CPU = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
const made = [];

afterEach(() => {
  while (made.length) fs.rmSync(made.pop(), { recursive: true, force: true });
});

// An action folder in a place of its own, with the hook and a binary made of `body`, which sees `called(…)`.
function action(body = '', name = `dist/nix-cache-${CPU}-${process.platform}`) {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'hook test '));
  made.push(root);
  fs.cpSync(HOOK, path.join(root, 'hook'), { recursive: true });
  for (const folder of ['dist', 'work']) fs.mkdirSync(path.join(root, folder));
  fs.writeFileSync(path.join(root, 'state'), '');
  if (body !== null) {
    const script = `#!${process.execPath}
      const fs = require('node:fs');
      const secrets = process.env.NIX_CACHE_SECRETS === 'stdin' ? JSON.parse(fs.readFileSync(0, 'utf8')) : {};
      const called = (more) => fs.writeFileSync(${JSON.stringify(path.join(root, 'called.json'))},
        JSON.stringify({ argv: process.argv.slice(2), env: process.env, secrets, ...more }));
      called({});
      ${body}`;
    fs.writeFileSync(path.join(root, name), script, { mode: 0o755 });
  }
  return root;
}

// The state as the runner reads it: `name<<delimiter`, lines, delimiter.
function state(root) {
  const lines = fs.readFileSync(path.join(root, 'state'), 'utf8').split('\n');
  const found = {};
  while (lines.length > 1) {
    const [name, end] = lines.shift().split('<<');
    const at = lines.indexOf(end);
    assert.ok(name && end && at >= 0, 'the state file has its form');
    found[name] = lines.splice(0, at).join('\n');
    lines.shift();
  }
  return found;
}

function start(root, script, variables) {
  const env = {
    PATH: process.env.PATH, GITHUB_STATE: path.join(root, 'state'), GITHUB_WORKSPACE: path.join(root, 'work'),
    ACTIONS_RUNTIME_TOKEN: 'runtime', 'INPUT_JOB-TOKEN': JOB_TOKEN, 'INPUT_JOB-STATUS': 'success', ...variables,
  };
  const child = spawn(process.execPath, [path.join(root, 'hook', script)], { env });
  child.log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (child.log += text));
  return child;
}

function ended(child) {
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, log: child.log })));
}

const run = (root, script, variables = {}) => ended(start(root, script, variables));
const called = (root) => {
  const file = path.join(root, 'called.json');
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : null;
};
const settings = (root) => ({ ...JSON.parse(called(root).env.NIX_CACHE_INPUTS), ...called(root).secrets?.inputs });
const inputs = (values) => ({ INPUT_INPUTS: JSON.stringify(values, null, 2) });

// Main and then post, each with the state that the runner would hand over.
async function both(root, variables, changed = {}) {
  const first = await run(root, 'hook.cjs', variables);
  const states = Object.fromEntries(Object.entries(state(root)).map(([name, value]) => [`STATE_${name}`, value]));
  fs.rmSync(path.join(root, 'called.json'), { force: true });
  return [first, await run(root, 'post.cjs', { ...variables, ...states, ...changed })];
}

test('main hands inputs over in the environment, tokens on standard input, and nothing in the arguments', async () => {
  const root = action();
  const given = { key: 'k', paths: 'a\nb', token: TOKEN, 'github-token': '' };
  const { code, log } = await run(root, 'hook.cjs', { ...inputs(given), INPUT_TOKEN: TOKEN, INPUT_MATRIX: '{\n"os": "linux"\n}' });
  assert.equal(code, 0, log);
  const { argv, env } = called(root);
  assert.deepEqual(argv, ['action', 'restore']);
  assert.deepEqual([called(root).secrets.variables, env.ACTIONS_RUNTIME_TOKEN], [{ ACTIONS_RUNTIME_TOKEN: 'runtime' }, undefined]);
  const found = settings(root);
  assert.deepEqual([found.key, found.paths, found.token, found.action], ['k', 'a\nb', TOKEN, 'both']);
  assert.deepEqual([JSON.parse(found.matrix).os, found['job-status']], ['linux', 'success']);
  const places = Object.entries(env).filter(([, value]) => value.includes(TOKEN) || value.includes(JOB_TOKEN));
  assert.deepEqual(places.map(([name]) => name), []);
});

test('the job has a token when the user gives none', async () => {
  const root = action();
  await run(root, 'hook.cjs', inputs({ token: '', 'github-token': '' }));
  assert.equal(settings(root).token, JOB_TOKEN);
  await run(root, 'hook.cjs', inputs({ 'github-token': TOKEN }));
  assert.deepEqual([settings(root).token, settings(root)['github-token']], [undefined, TOKEN]);
});

test('no token is in state, and no value can break out of it', async () => {
  const root = action();
  const given = { token: TOKEN, 'github-token': TOKEN, key: 'x\nSTATE<<E\nnix_cache_settings<<end\n{}\nend\n' };
  await run(root, 'hook.cjs', { ...inputs(given), INPUT_TOKEN: TOKEN, INPUT_MATRIX: 'null' });
  const text = fs.readFileSync(path.join(root, 'state'), 'utf8');
  assert.ok(!text.includes(TOKEN) && !text.includes(JOB_TOKEN) && !text.includes('runtime'));
  const kept = state(root);
  assert.deepEqual(Object.keys(kept), ['nix_cache_settings']);
  assert.equal(JSON.parse(kept.nix_cache_settings).key, given.key);
  fs.writeFileSync(path.join(root, 'state'), '');
  await run(root, 'hook.cjs', { ...inputs(given), INPUT_MATRIX: 'null' });
  assert.notEqual(text, fs.readFileSync(path.join(root, 'state'), 'utf8'), 'the delimiter is another one');
});

test('the signing key reaches the binary in both steps, and neither state nor any other variable', async () => {
  const key = `test-1:${Buffer.alloc(64, 7).toString('base64')}`;
  const variables = { ...inputs({ 'signing-key': key, token: TOKEN }), 'INPUT_SIGNING-KEY': `${key}\n` };
  const held = (root) => Object.entries(called(root).env).filter(([, value]) => value.includes(key)).map(([name]) => name);
  const main = action();
  await run(main, 'hook.cjs', variables);
  assert.deepEqual([settings(main)['signing-key'], held(main)], [key, []]);
  // A step such as plan takes just the inputs that it declares.
  assert.equal('signing-key-digest' in settings(main), false);
  const kept = fs.readFileSync(path.join(main, 'state'), 'utf8');
  for (const part of [key, key.slice(10, 40)]) assert.ok(!kept.includes(part), kept);
  const root = action();
  const [, post] = await both(root, variables);
  assert.deepEqual([settings(root)['signing-key'].trim(), held(root)], [key, []], post.log);
});

test('post takes no other key for its own, and the binary knows that one is missing', async () => {
  const key = `test-1:${Buffer.alloc(64, 7).toString('base64')}`;
  for (const given of ['', `test-1:${Buffer.alloc(64, 8).toString('base64')}`]) {
    const root = action();
    await both(root, { ...inputs({ 'signing-key': key }), 'INPUT_SIGNING-KEY': key }, { 'INPUT_SIGNING-KEY': given });
    const found = settings(root);
    assert.deepEqual([found['signing-key'], found['signing-key-digest'].length], [undefined, 64]);
  }
  const root = action();
  await both(root, inputs({}), { 'INPUT_SIGNING-KEY': key });
  assert.deepEqual([settings(root)['signing-key'], settings(root)['signing-key-digest']], [undefined, undefined]);
});

test('post takes settings from state, and only the token and the job status anew', async () => {
  const root = action();
  const first = { ...inputs({ key: 'mine', token: TOKEN }), INPUT_ACTION: 'both', INPUT_TOKEN: TOKEN, INPUT_MATRIX: '{"a":1}' };
  const other = { ...inputs({ key: 'of another action' }), INPUT_ACTION: 'save', INPUT_MATRIX: 'null' };
  const [main, post] = await both(root, first, { ...other, 'INPUT_JOB-STATUS': 'failure' });
  assert.deepEqual([main.code, post.code], [0, 0], post.log);
  assert.deepEqual(called(root).argv, ['action', 'post']);
  const { key, token, matrix, action: kind, 'job-status': status } = settings(root);
  assert.deepEqual([key, token, matrix, kind, status], ['mine', TOKEN, '{"a":1}', 'both', 'failure']);
});

test('post does not take another action\'s secret for a token', async () => {
  for (const [given, taken] of [['cachix-secret', JOB_TOKEN], ['', JOB_TOKEN], ['github_pat_1', 'github_pat_1'], ['ghp_1', 'ghp_1']]) {
    const root = action();
    await both(root, inputs({}), { INPUT_TOKEN: given });
    assert.equal(settings(root).token, taken);
  }
});

test('save runs in main and not in post', async () => {
  const root = action();
  const [main] = await both(root, { ...inputs({}), INPUT_ACTION: 'save' });
  assert.equal(main.code, 0);
  assert.equal(called(root), null, 'post started nothing');
  await run(root, 'hook.cjs', { ...inputs({}), INPUT_ACTION: 'save' });
  assert.deepEqual(called(root).argv, ['action', 'save']);
});

// `build/` has no hook: the commands it runs must not find a token in the processes above them.
const build = (root, variables = {}) => ended(Object.assign(spawn('sh', ['-c', 'exec sh "$GITHUB_ACTION_PATH/run.sh"'], {
  env: { PATH: process.env.PATH, GITHUB_WORKSPACE: path.join(root, 'work'), GITHUB_ACTION_PATH: path.join(root, 'build'), ...variables },
}), { log: '' }).on('spawn', function listen() {
  for (const stream of [this.stdout, this.stderr]) stream.on('data', (text) => (this.log += text));
}));
const buildAction = (...given) => {
  const root = action(...given);
  fs.cpSync(path.join(HOOK, '..', 'build'), path.join(root, 'build'), { recursive: true });
  return root;
};

test('a build gets its inputs and no token', async () => {
  const root = buildAction();
  const tokens = { ACTIONS_RUNTIME_TOKEN: 'secret-1', ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'secret-2', GITHUB_TOKEN: 'secret-3', GH_TOKEN: 'secret-4' };
  const { code, log } = await build(root, { NIX_CACHE_INPUTS: '{"targets":"a"}', ...tokens });
  assert.deepEqual([code, log], [0, '']);
  const { argv, env } = called(root);
  assert.deepEqual([argv, env.NIX_CACHE_INPUTS], [['action', 'build'], '{"targets":"a"}']);
  assert.ok(!Object.values(env).some((value) => value.includes('secret-')), JSON.stringify(env));
});

test('a build that did not run fails its step', async () => {
  for (const code of [0, 1, 2, 101]) assert.equal((await build(buildAction(`process.exit(${code})`))).code, code);
  const none = await build(buildAction(null));
  assert.equal(none.code, 1);
  assert.match(none.log, /^::error title=nix-cache::There is no .*"binary"\. Nothing was built\.$/m);
  const own = buildAction('', 'work/mine');
  assert.equal((await build(own, { NIX_CACHE_BINARY: 'mine' })).code, 0);
  assert.deepEqual(called(own).argv, ['action', 'build']);
  const { code, log } = await build(own, { NIX_CACHE_BINARY: 'no\n::error::x%' });
  assert.deepEqual([code, log.split('\n').length], [1, 2], log);
});

test('without a plan the job fails, since the jobs behind it would build nothing', async () => {
  const plan = { ...inputs({ include: 'a' }), INPUT_ACTION: 'plan' };
  const root = action();
  const [main, post] = await both(root, plan);
  assert.deepEqual([main.code, post.code, called(root)], [0, 0, null], main.log);
  await run(root, 'hook.cjs', plan);
  assert.deepEqual(called(root).argv, ['action', 'plan']);
  const broken = [
    [action(null), plan], [action('process.exit(1)'), plan], [action('process.exit(3)'), plan],
    [action("process.kill(process.pid, 'SIGKILL')"), plan], [action(), { ...plan, INPUT_INPUTS: 'no JSON' }],
  ];
  for (const [root, variables] of broken) {
    const [main, post] = await both(root, variables);
    assert.deepEqual([main.code, post.code], [1, 0], main.log);
  }
  assert.equal((await run(action('process.exit(2)'), 'hook.cjs', plan)).code, 2);
  assert.match((await run(action(null), 'hook.cjs', plan)).log, /^::error title=nix-cache::There is no .*There is no plan\.$/m);
  const page = await run(action(null), 'hook.cjs', { ...inputs({}), INPUT_ACTION: 'dashboard' });
  assert.equal(page.code, 1);
  assert.match(page.log, /^::error title=nix-cache::There is no .*There is no dashboard\.$/m);
});

test('main fails with 1 and 2 only; post never fails', async () => {
  const cases = [['process.exit(0)', 0, false], ['process.exit(1)', 1, false], ['process.exit(2)', 2, false],
    ['process.exit(3)', 0, true], ['process.exit(101)', 0, true], ["process.kill(process.pid, 'SIGKILL')", 0, true],
    ['process.abort()', 0, true]];
  for (const [body, code, warned] of cases) {
    const [main, post] = await both(action(body), inputs({}));
    assert.deepEqual([main.code, main.log.includes('::warning ')], [code, warned], `main, ${body}: ${main.log}`);
    assert.equal(post.code, 0, `post, ${body}`);
    assert.equal(post.log.includes('::warning '), body !== 'process.exit(0)', `post, ${body}: ${post.log}`);
  }
});

test('a missing binary is a warning with its cause and remedy', async () => {
  const [main, post] = await both(action(null), inputs({}));
  assert.deepEqual([main.code, post.code], [0, 0]);
  for (const { log } of [main, post]) assert.match(log, /^::warning title=nix-cache::There is no .*nix-cache-.*"binary"/m);
});

// A stand-in for another machine: the hook sees this platform and processor.
const on = (platform, arch) => {
  const preload = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'hook-platform-')), 'machine.cjs');
  made.push(path.dirname(preload));
  fs.writeFileSync(preload, `Object.defineProperty(process, 'platform', { value: '${platform}' });
    Object.defineProperty(process, 'arch', { value: '${arch}' });`);
  return { NODE_OPTIONS: `--require "${preload}"` };
};

test('the binary is that of the platform and the processor', async () => {
  for (const [platform, arch, name] of [['linux', 'x64', 'x86_64-linux'], ['linux', 'arm64', 'aarch64-linux'],
    ['darwin', 'arm64', 'aarch64-darwin'], ['darwin', 'x64', 'x86_64-darwin']]) {
    const root = action('', `dist/nix-cache-${name}`);
    const [main, post] = await both(root, { ...inputs({}), ...on(platform, arch) });
    assert.deepEqual([main.code, post.code, called(root).argv], [0, 0, ['action', 'post']], main.log + post.log);
  }
});

test('a platform without a binary is a clear warning in both steps, and the job goes on', async () => {
  for (const [platform, arch, says] of [['win32', 'x64', 'x86_64 Windows'], ['darwin', 'arm64', 'aarch64 macOS'],
    ['linux', 'riscv64', 'riscv64 Linux'], ['freebsd', 'x64', 'x86_64 freebsd']]) {
    const root = action();
    fs.copyFileSync(path.join(root, `dist/nix-cache-${CPU}-${process.platform}`), path.join(root, 'dist/nix-cache-x86_64-other'));
    const [main, post] = await both(root, { ...inputs({}), ...on(platform, arch) });
    assert.deepEqual([main.code, post.code, called(root)], [0, 0, null]);
    for (const { log } of [main, post]) {
      assert.match(log, new RegExp(`^::warning title=nix-cache::There is no .*no nix-cache for ${says}\\. .*"binary"`, 'm'));
    }
  }
});

test('a binary that cannot be started is a warning', async () => {
  const root = action('');
  fs.chmodSync(path.join(root, `dist/nix-cache-${CPU}-${process.platform}`), 0o644);
  const [main, post] = await both(root, inputs({}));
  assert.deepEqual([main.code, post.code], [0, 0]);
  for (const { log } of [main, post]) assert.match(log, /::warning title=nix-cache::.*did not start/);
});

test('a binary that vanishes before post is a warning', async () => {
  const root = action();
  await run(root, 'hook.cjs', inputs({}));
  fs.rmSync(path.join(root, 'dist'), { recursive: true });
  const post = await run(root, 'post.cjs', { STATE_nix_cache_settings: state(root).nix_cache_settings });
  assert.equal(post.code, 0);
  assert.match(post.log, /::warning title=nix-cache::There is no/);
});

test('the input "binary" counts from the workspace', async () => {
  const root = action('', 'work/my-nix-cache');
  const { code, log } = await run(root, 'hook.cjs', inputs({ binary: 'my-nix-cache' }));
  assert.deepEqual([code, log], [0, '']);
  assert.deepEqual(called(root).argv, ['action', 'restore']);
});

test('post without state, or with a broken one, ends well and starts nothing', async () => {
  for (const [value, warned] of [[undefined, false], ['{', true], ['null', true]]) {
    const root = action();
    const { code, log } = await run(root, 'post.cjs', value === undefined ? {} : { STATE_nix_cache_settings: value });
    assert.deepEqual([code, log.includes('::warning '), called(root)], [0, warned, null], log);
  }
});

test('without a file of the runner\'s, the job is restored and told that nothing is saved', async () => {
  const folder = path.join(os.tmpdir());
  for (const [GITHUB_STATE, why] of [['', /no GITHUB_STATE/], [path.join(folder, 'no/state'), /ENOENT/], [folder, /EISDIR/]]) {
    const root = action();
    const { code, log } = await run(root, 'hook.cjs', { ...inputs({}), GITHUB_STATE });
    assert.equal(code, 0);
    assert.match(log, /^::warning title=nix-cache::The hook could not .*nothing is saved at the end of the job: /m);
    assert.match(log, why);
    assert.ok(!/TypeError|undefined/.test(log), log);
    assert.deepEqual(called(root).argv, ['action', 'restore']);
  }
  const bare = action();
  const { code, log } = await ended(Object.assign(spawn(process.execPath, [path.join(bare, 'hook', 'hook.cjs')], { env: { PATH: process.env.PATH } }), { log: '' })
    .on('spawn', function listen() { for (const stream of [this.stdout, this.stderr]) stream.on('data', (text) => (this.log += text)); }));
  assert.deepEqual([code, called(bare).argv], [0, ['action', 'restore']], log);
});

test('a broken input is not quoted, for it may hold the token', async () => {
  const root = action();
  const { code, log } = await run(root, 'hook.cjs', { INPUT_INPUTS: TOKEN });
  assert.deepEqual([code, called(root)], [0, null]);
  assert.match(log, /::warning title=nix-cache::The hook failed/);
  for (let at = 0; at + 8 <= TOKEN.length; at++) assert.ok(!log.includes(TOKEN.slice(at, at + 8)), log);
});

test('a message is one line of the log', async () => {
  const { log } = await run(action(null), 'hook.cjs', inputs({ binary: 'a\n::error::b%' }));
  assert.match(log, /^::warning title=nix-cache::[^\n]*a%0A::error::b%25[^\n]*\n$/);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  for (const [script, variables] of [
    ['hook.cjs', inputs({})], ['post.cjs', { STATE_nix_cache_settings: '{"action":"both"}' }],
  ]) {
    test(`${signal} reaches the binary of ${script}, which is waited for`, async () => {
      const root = action(`
        process.on('${signal}', () => setTimeout(() => { called({ got: '${signal}' }); process.exit(1); }, 200));
        setTimeout(() => process.exit(9), 20_000); // no signal came: end, and fail the test
        console.log('ready');`);
      const child = start(root, script, variables);
      const end = ended(child);
      await new Promise((resolve) => child.stdout.on('data', (text) => String(text).includes('ready') && resolve()));
      child.kill(signal);
      const { code, signal: died, log } = await end;
      assert.deepEqual([code, died, called(root).got], [0, null, signal], log);
      assert.ok(!log.includes('::warning '), log);
    });
  }
}
