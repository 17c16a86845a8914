'use strict';
// Runs the prober that `cargo build --example probe` made in the workspace. It inherits the variables of this step, and with
// them the token of the cache service, which steps with `run:` do not get.
const { spawnSync } = require('node:child_process');
const path = require('node:path');

const prober = path.join(process.env.GITHUB_WORKSPACE ?? '.', 'target', 'debug', 'examples', 'probe');
const { error, status } = spawnSync(prober, { stdio: 'inherit' });
if (error) console.log(`::error title=probe::${prober} cannot be run (${error.code}). Build it with: cargo build --example probe`);
process.exitCode = status ?? 1;
