// Writes reference.md from the package's declarations: `npm run reference` after a build. With --check it
// only says whether the file is what it would write.

import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const entry = at('../dist/index.d.ts');
const options = { lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], types: [], target: ts.ScriptTarget.ES2022, moduleResolution: ts.ModuleResolutionKind.Bundler, module: ts.ModuleKind.ES2022 };
const program = ts.createProgram([entry], options);
const checker = program.getTypeChecker();
const exported = checker
  .getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry)))
  .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol))
  .map((symbol) => ({ name: symbol.name, symbol, node: symbol.declarations[0] }));

const lines = [
  '# Reference',
  '',
  'Every name that `helium-webgpu` exports. Generated from its types by `npm run reference`: change the comments there.',
];
const ORDER = ['Helium', 'Session', 'Completions', 'HeliumError'];
const classes = exported.filter(({ node }) => ts.isClassDeclaration(node)).sort((a, b) => ORDER.indexOf(a.name) - ORDER.indexOf(b.name));
const rest = exported.filter(({ node }) => !ts.isClassDeclaration(node)).sort((a, b) => (a.name < b.name ? -1 : 1));
for (const { name, symbol, node } of [...classes, ...rest]) {
  lines.push('', `## ${name}`, ...paragraph(docOf(symbol)));
  if (ts.isClassDeclaration(node)) members(node).forEach(classMember);
  else if (ts.isInterfaceDeclaration(node)) table(node);
  else lines.push('', '```ts', withoutComments(node), '```');
}
const text = `${lines.join('\n')}\n`;
if (process.argv.includes('--check')) {
  if ((await readFile(at('reference.md'), 'utf8')) !== text) {
    console.error('npm/docs/reference.md is not what the types say: run `npm run reference`');
    process.exit(1);
  }
} else {
  await writeFile(at('reference.md'), text);
}

/** Those that a user may name. */
function members(node) {
  return node.members.filter((member) => {
    const hidden = ts.getCombinedModifierFlags(member) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected);
    return !hidden && !ts.getJSDocTags(member).some((tag) => tag.tagName.text === 'internal');
  });
}

/** Overloads are members of their own, with the comment of the first. */
function classMember(member, nth, all) {
  const name = ts.isConstructorDeclaration(member) ? 'constructor' : member.name.getText();
  if (all[nth - 1]?.name?.getText() !== name) {
    const owner = member.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.StaticKeyword) ? `${member.parent.name.text}.` : '';
    lines.push('', `### ${owner}${name}`, ...paragraph(docOf(member.symbol)));
  }
  lines.push('', '```ts', withoutComments(member), '```');
}

function table(node) {
  for (const clause of node.heritageClauses ?? []) lines.push('', `Extends \`${oneLine(clause.types[0].getText())}\`.`);
  lines.push('', '| | type | |', '| --- | --- | --- |');
  for (const member of node.members) {
    if (ts.isIndexSignatureDeclaration(member)) continue;
    const type = oneLine(member.type.getText()).replaceAll('|', '\\|');
    lines.push(`| \`${member.name.getText()}${member.questionToken ? '?' : ''}\` | \`${type}\` | ${oneLine(docOf(member.symbol))} |`);
  }
}

function docOf(symbol) {
  return ts.displayPartsToString(symbol.getDocumentationComment(checker)).replaceAll(/\{@link (\w+)\.(\w+)\}/g, '`$1.$2`');
}

function paragraph(doc) {
  return doc === '' ? [] : ['', oneLine(doc)];
}

function oneLine(words) {
  return words.replaceAll(/\/\*\*.*?\*\//gs, '').replaceAll(/\s+/g, ' ').trim();
}

function withoutComments(node) {
  const source = node.getText().replaceAll(/^\s*\/\*\*.*?\*\/\n/gms, '').replace(/^export (declare )?/, '');
  const indent = /\n( *)\S[^\n]*$/.exec(source)?.[1] ?? '';
  return indent.length > 0 && source.endsWith('}') ? source.replaceAll(`\n${indent}`, '\n') : source;
}
