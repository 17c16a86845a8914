// Preloaded with `node --require`: every host under blob.core.windows.net is this machine. GitHub's cache client downloads
// through the Azure SDK from such hosts only, so this is how a test on the loopback reaches that code.
const dns = require('node:dns')

const lookup = dns.lookup
dns.lookup = (host, options, callback) => {
  const here = host.endsWith('.blob.core.windows.net') ? '127.0.0.1' : host
  return lookup(here, options, callback)
}
