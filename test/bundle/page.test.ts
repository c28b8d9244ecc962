// What a browser loads: small, and nothing from elsewhere.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import test from 'ava';

import { packageRoot } from '../../daemon/version.js';

const FILES = ['index.html', 'icon.svg', 'page.js', 'style.css'];
const textOf = (name: string): Buffer => readFileSync(join(packageRoot, 'build/page', name));

test('the page is at most 60 KB, compressed', (t) => {
  const size = FILES.reduce((sum, name) => sum + gzipSync(textOf(name)).length, 0);
  t.true(size <= 60_000, `${size} bytes`);
});

test('the page has no inline script or style, and loads its own files alone', (t) => {
  const html = textOf('index.html').toString();
  t.notRegex(html, /<style|\sstyle=|\son\w+=|<script>/);
  t.deepEqual(
    [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, path]) => path),
    ['/icon.svg', '/style.css', '/page.js'],
  );
  t.notRegex(textOf('style.css').toString(), /url\(|@import/);
});
