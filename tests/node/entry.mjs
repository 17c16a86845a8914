// One entry put or got by the parts that GitHub's own client is made of: its calls, its upload, its ways to download. Only the
// version is not its own: it computes one from the paths that it packs, and here any file is an entry.
//
// node entry.mjs put|get-stream|get-sdk|get-ranges KEY VERSION FILE
import { statSync } from 'node:fs'
import { saveCache } from './node_modules/@actions/cache/lib/internal/cacheHttpClient.js'
import * as download from './node_modules/@actions/cache/lib/internal/downloadUtils.js'
import { internalCacheTwirpClient } from './node_modules/@actions/cache/lib/internal/shared/cacheTwirpClient.js'
import { getDownloadOptions } from './node_modules/@actions/cache/lib/options.js'

const [verb, key, version, file] = process.argv.slice(2)
const service = internalCacheTwirpClient()
const ways = {
  'get-stream': url => download.downloadCacheHttpClient(url, file),
  'get-sdk': url => download.downloadCacheStorageSDK(url, file, getDownloadOptions()),
  'get-ranges': url => download.downloadCacheHttpClientConcurrent(url, file, getDownloadOptions())
}

if (verb === 'put') {
  const created = await service.CreateCacheEntry({ key, version })
  if (!created.ok) throw new Error(`${key} cannot be reserved: ${created.message}`)
  const size = statSync(file).size
  await saveCache(-1, file, created.signedUploadUrl, { useAzureSdk: true, archiveSizeBytes: size })
  const done = await service.FinalizeCacheEntryUpload({ key, version, sizeBytes: `${size}` })
  if (!done.ok) throw new Error(`${key} cannot be committed: ${done.message}`)
} else {
  const found = await service.GetCacheEntryDownloadURL({ key, restoreKeys: [], version })
  if (!found.ok || found.matchedKey !== key) throw new Error(`${key} is not there, but ${found.matchedKey}`)
  await ways[verb](found.signedDownloadUrl)
}
