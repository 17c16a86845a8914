// One call of GitHub's own artifact client, with its outcome as the last line of output.
//
// node artifact.mjs upload NAME FILE | list [RUN] | download NAME FOLDER [RUN]
//
// With the number of a run, it asks the REST interface with GITHUB_TOKEN, as for the artifacts of another run.
import path from 'node:path'
import { DefaultArtifactClient } from '@actions/artifact'

const client = new DefaultArtifactClient()
const [verb, ...args] = process.argv.slice(2)
const [repositoryOwner, repositoryName] = process.env.GITHUB_REPOSITORY.split('/')
const from = run =>
  run ? { findBy: { token: process.env.GITHUB_TOKEN, workflowRunId: Number(run), repositoryOwner, repositoryName } } : {}
const verbs = {
  upload: (name, file) => client.uploadArtifact(name, [file], path.dirname(file)),
  list: async run => (await client.listArtifacts(from(run))).artifacts,
  download: async (name, folder, run) => {
    const { artifact } = await client.getArtifact(name, from(run))
    return client.downloadArtifact(artifact.id, { path: folder, expectedHash: artifact.digest, ...from(run) })
  }
}

let outcome
try {
  outcome = { value: await verbs[verb](...args) }
} catch (error) {
  outcome = { error: `${error.name}: ${error.message}` }
}
console.log(`\n${JSON.stringify(outcome)}`)
