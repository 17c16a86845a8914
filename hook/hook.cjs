'use strict';
// Starts the nix-cache binary and gets out of its way. Only a JavaScript action has both the cache service's token and
// a post step, which is all that this file is for. No packages: what is here is what runs.
const { spawn } = require('node:child_process');
const { createHash, randomUUID } = require('node:crypto');
const { appendFileSync, existsSync } = require('node:fs');
const path = require('node:path');

const input = (name) => process.env[`INPUT_${name.toUpperCase()}`] ?? '';
const encode = (text) => text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
const warn = (text) => console.log(`::warning title=nix-cache::${encode(text)} The job goes on without the cache.`);

// Whether the post step will know it. Without the runner's file the job has a restore and no save, and is told so.
function saveState(name, value) {
  const end = `end-${randomUUID()}`;
  try {
    if (!process.env.GITHUB_STATE) throw new Error('the runner gives no GITHUB_STATE');
    appendFileSync(process.env.GITHUB_STATE, `${name}<<${end}\n${value}\n${end}\n`);
  } catch ({ message }) {
    const what = AT_ONCE.includes(input('action')) ? 'what this step did' : 'its settings, so nothing is saved at the end of the job';
    console.log(`::warning title=nix-cache::The hook could not leave word for the post step of ${what}: ${encode(message)}.`);
  }
}

// The names that Nix and `dist/` use. What is not here was never built.
const CPUS = { x64: 'x86_64', arm64: 'aarch64' };
const SYSTEMS = { linux: 'Linux', darwin: 'macOS', win32: 'Windows' };

// Actions that fail their job when they cannot be carried out. Without a plan, for one, nobody knows what to build, and a job that
// reads its empty outputs would build nothing and be green; without a dashboard, an empty folder would be published.
const REQUIRED = { plan: 'There is no plan.', dashboard: 'There is no dashboard.' };

// The binary to run, or why there is none.
function findBinary(given) {
  if (given) {
    const file = path.resolve(process.env.GITHUB_WORKSPACE ?? '.', given);
    return existsSync(file) ? { file } : { why: `There is no ${file}, which the input "binary" names.` };
  }
  const cpu = CPUS[process.arch] ?? process.arch;
  const file = path.join(__dirname, '..', 'dist', `nix-cache-${cpu}-${process.platform}`);
  if (existsSync(file)) return { file };
  const machine = `${cpu} ${SYSTEMS[process.platform] ?? process.platform}`;
  return {
    why: `There is no ${file}: this action brings no nix-cache for ${machine}. ` +
      'Linux on x86_64 and aarch64 have one. Give the path of one built for this machine as the input "binary".',
  };
}

// By this post knows the key that main had. A key is 32 random bytes: nobody finds them from it.
const digest = (key) => createHash('sha256').update(key.trim()).digest('hex');

// What to do with trouble in this action: what is a warning for a cache fails the step of a plan.
const troubleOf = (action) => (Object.hasOwn(REQUIRED, action) ? (text) => {
  console.log(`::error title=nix-cache::${encode(text)} ${REQUIRED[action]}`);
  process.exitCode = 1;
} : warn);

// Tokens travel on standard input: everyone on the machine can read the arguments of a process, and every process of the same
// user its environment. Our own environment has them while a step of this action runs; no process can change that.
const SECRET = /^(ACTIONS_(RUNTIME|ID_TOKEN_REQUEST)_TOKEN|GITHUB_TOKEN|GH_TOKEN|NIX_CACHE_PUSH_(TOKEN|LOGIN))$/;

// Runs `nix-cache action <command>` with these settings, and with `secrets` among them.
function run(command, settings, secrets, finished) {
  const trouble = troubleOf(command);
  const { file: binary, why } = findBinary(settings.binary);
  if (why) return trouble(why);
  const of = (wanted) => Object.fromEntries(Object.entries(process.env).filter(([name]) => wanted(name)));
  const env = { ...of((name) => !SECRET.test(name) && !name.startsWith('INPUT_')), NIX_CACHE_INPUTS: JSON.stringify(settings), NIX_CACHE_SECRETS: 'stdin' };
  const child = spawn(binary, ['action', command], { stdio: ['pipe', 'inherit', 'inherit'], env });
  child.stdin.on('error', () => {}); // it ended before it read everything: its exit says why
  child.stdin.end(JSON.stringify({ variables: of((name) => SECRET.test(name)), inputs: secrets }));
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => (stopping = child.kill(signal)));
  child.on('error', ({ message }) => trouble(`${binary} did not start (${message}). Check that it may be executed here.`));
  child.on('exit', (code, signal) => stopping || finished(code, signal ?? `exit code ${code}`));
}

// A mistake in this file must not fail a job either. The message of a JSON error quotes the text, token and all.
function guarded(work, trouble = warn) {
  try {
    work();
  } catch (error) {
    trouble(`The hook failed: ${error instanceof SyntaxError ? 'its settings are no JSON' : error.message}.`);
  }
}

// Actions that are done in the main step.
const AT_ONCE = ['save', 'plan', 'drvs', 'record', 'record-audit', 'comment', 'dashboard', 'prune', 'push', 'warm-restore', 'warm-save'];

// The runner evaluates INPUT_* once more for the post step, and wrongly where our action stands inside another
// composite action; so post takes its settings from here. Tokens and keys are left out: state is a file and a variable.
const main = () => guarded(() => {
  const all = { ...JSON.parse(input('inputs') || '{}'), action: input('action') || 'both', matrix: input('matrix') };
  const { token, 'github-token': other, 'signing-key': key = '', ...settings } = all;
  // For the post step alone: other steps have no such setting.
  saveState('nix_cache_settings', JSON.stringify(key ? { ...settings, 'signing-key-digest': digest(key) } : settings));
  const tokens = token || other ? { token, 'github-token': other } : { token: input('job-token') };
  const fresh = { ...settings, 'job-status': input('job-status') };
  const trouble = troubleOf(settings.action);
  run(AT_ONCE.includes(settings.action) ? settings.action : 'restore', fresh, { ...tokens, 'signing-key': key }, (code, how) => {
    if (code === 1 || code === 2) process.exitCode = code; // fail-on, or an input that it does not take
    else if (code !== 0) trouble(`nix-cache stopped early (${how}). The log above may say why.`);
  });
}, troubleOf(input('action')));

// Three inputs are read here again: `job-status`, which is meant to be new, `token` and `signing-key`, which must not be
// kept. All are safe: the job's own status and token do not depend on who calls us; a token that the user gave is only
// taken when it looks like one of GitHub's, so that the input of the same name of another action cannot be sent to GitHub;
// and a key only when it is the one that main had.
const post = () => guarded(() => {
  const settings = JSON.parse(process.env.STATE_nix_cache_settings ?? '{"action":"save"}');
  if (AT_ONCE.includes(settings.action)) return; // all done in main, or main never came so far
  const token = /^(gh[a-z]_|github_pat_)/.test(input('token')) ? input('token') : input('job-token');
  const key = input('signing-key');
  const same = digest(key) === settings['signing-key-digest'] ? { 'signing-key': key } : {};
  run('post', { ...settings, 'job-status': input('job-status') }, { ...same, token }, (code, how) => {
    if (code !== 0) warn(`nix-cache stopped early (${how}). What it had not saved by then is not saved.`);
  });
});

module.exports = { post };
if (require.main === module) main();
