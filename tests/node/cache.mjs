// One call of GitHub's own cache client, with its outcome as the last line of output.
//
// node cache.mjs save|restore|lookup KEY PATH [RESTORE_KEY]...
import * as cache from '@actions/cache'

const [verb, key, path, ...restoreKeys] = process.argv.slice(2)
const verbs = {
  save: () => cache.saveCache([path], key),
  restore: () => cache.restoreCache([path], key, restoreKeys),
  lookup: () => cache.restoreCache([path], key, restoreKeys, { lookupOnly: true })
}

let outcome
try {
  outcome = { value: (await verbs[verb]()) ?? null }
} catch (error) {
  outcome = { error: `${error.name}: ${error.message}` }
}
console.log(`\n${JSON.stringify(outcome)}`)
