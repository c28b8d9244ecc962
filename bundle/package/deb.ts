// The package for Debian and Ubuntu.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { commonFiles, unitFiles, writeFiles, type PackageFile, type Sources } from './files.js';

const PLACES = {
  prefix: 'usr',
  networkManager: 'usr/lib/NetworkManager/conf.d',
  networkd: 'usr/lib/systemd/network',
};

const SCRIPTS = ['postinst', 'prerm', 'postrm'];

/**
 * @param folder a new one @param compression as dpkg-deb takes it
 * @returns the package's name in `out`
 */
export function makeDeb(
  sources: Sources,
  {
    folder,
    out,
    version,
    compression,
  }: { folder: string; out: string; version: string; compression: string[] },
): string {
  const { root, target } = sources;
  const settings = ['agent', 'controller'].map((daemon): PackageFile => {
    return {
      path: `etc/weft/${daemon}.yaml`,
      content: readFileSync(join(root, `deploy/package/${daemon}.yaml`)),
    };
  });
  const files = [
    ...commonFiles(sources, PLACES),
    ...unitFiles('usr/lib/systemd/system', '/usr/bin/weft'),
    ...settings,
  ];
  const kilobytes = files.reduce((sum, { content }) => sum + Math.ceil(content.length / 1024), 0);
  writeFiles(folder, [
    ...files,
    {
      path: 'DEBIAN/control',
      content: readFileSync(join(root, 'deploy/package/control'), 'utf8')
        .replace('VERSION', version)
        .replace('ARCHITECTURE', target.debian)
        .replace('KILOBYTES', String(kilobytes)),
    },
    { path: 'DEBIAN/conffiles', content: settings.map(({ path }) => `/${path}\n`).join('') },
    { path: 'DEBIAN/md5sums', content: files.map((file) => `${md5(file)}  ${file.path}\n`).join('') },
    ...SCRIPTS.map((name) => ({
      path: `DEBIAN/${name}`,
      content: readFileSync(join(root, 'deploy/package', name)),
      mode: 0o755,
    })),
  ]);
  const name = `weft_${version}_${target.debian}.deb`;
  execFileSync('dpkg-deb', ['--root-owner-group', ...compression, '--build', folder, join(out, name)], {
    stdio: 'pipe',
  });
  return name;
}

/** dpkg --verify compares with it. */
const md5 = ({ content }: PackageFile): string => createHash('md5').update(content).digest('hex');
