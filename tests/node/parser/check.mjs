// Holds YAML files against GitHub's own parser: node node_modules/.check.mjs FILE... (from the top of the repository). What they call of
// this repository, by `$/`, `./` or its name, is looked up here, so that inputs are compared as well.
import { existsSync, readFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { FeatureFlags } from '@actions/expressions';
import { validate } from '@actions/languageservice';
import { parse } from 'yaml';
import { TextDocument } from 'vscode-languageserver-textdocument';

const OURS = 'blazedots/nix-cache-action';
const EXCEPT = [
  // The schema of 0.3.61 is older than this key of workflows and jobs.
  /^Unexpected value 'cache-mode'$/,
  // Actions of others are not looked up: that takes a network.
  new RegExp(`^Unable to resolve action \`(?!${OURS})`),
  // A matter of style: a newline at the end of an input.
  /^Block scalar '[|>]' implicitly adds a trailing newline/,
];

const read = (folder) => {
  const file = ['action.yml', 'action.yaml'].map((name) => join(folder, name)).find((file) => existsSync(file));
  return file && parse(readFileSync(file, 'utf8'));
};

const config = {
  featureFlags: new FeatureFlags({ all: true }),
  actionsMetadataProvider: {
    async fetchActionMetadata({ owner, name, path }) {
      return `${owner}/${name}` === OURS ? read(path || '.') : undefined;
    },
  },
  fileProvider: {
    async getFileContent(reference) {
      const isOurs = !('repository' in reference) || `${reference.owner}/${reference.repository}` === OURS;
      if (!isOurs) throw new Error('a file of another repository');
      const file = normalize(reference.path.replace(/^\$\//, ''));
      return { name: file, content: readFileSync(file, 'utf8') };
    },
  },
};

let failed = 0;
for (const file of process.argv.slice(2)) {
  // The parser knows by the folder what a workflow is.
  const isAction = /(^|\/)action\.ya?ml$/.test(file);
  const name = isAction ? file : `.github/workflows/${file.split('/').pop()}`;
  const document = TextDocument.create(`file:///repository/${name}`, 'yaml', 1, readFileSync(file, 'utf8'));
  for (const { message, range, severity } of await validate(document, config)) {
    if (severity > 2 || EXCEPT.some((exception) => exception.test(message))) continue;
    console.log(`${file}:${range.start.line + 1}: ${message}`);
    failed = 1;
  }
}
process.exit(failed);
