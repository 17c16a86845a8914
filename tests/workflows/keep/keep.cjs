'use strict';
// Post steps run in the reverse order: that of an action which stands before the cache sees what the cache left behind. In
// the main step there is nothing yet.
const { cpSync, existsSync } = require('node:fs');
const path = require('node:path');

const reports = path.join(process.env.RUNNER_TEMP, 'nix-cache');
if (existsSync(reports)) cpSync(reports, process.env.INPUT_INTO, { recursive: true });
