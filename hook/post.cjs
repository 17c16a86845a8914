'use strict';
// A file of its own, so that the post step knows what it is even when the main step left no state behind.
require('./hook.cjs').post();
