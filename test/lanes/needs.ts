// What a lane needs of a machine, and why this one does not have it.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { Lane, Need, OtherNode } from './table.js';

/** Where scripts/other-nodes.sh puts another Node.js. */
export const otherNode = (checkout: string, version: OtherNode): string =>
  join(checkout, `node_modules/.cache/weft-node/node_modules/node-${version}/bin/node`);

/** Containers need cgroups that can be written. */
const CGROUPS = `
  group=/sys/fs/cgroup/weft-probe.$$
  [ ! -d /sys/fs/cgroup/pids ] || group=/sys/fs/cgroup/pids/weft-probe.$$
  mkdir "$group" && rmdir "$group"`;

/** An engine also needs overlayfs on a tmpfs. */
const ENGINE = `
  unshare -m --propagation private sh -c '
    mount -t tmpfs t /mnt && cd /mnt && mkdir l u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m' || exit
  ${CGROUPS}`;

/** Answers why a need is not met here; asks the machine once for each. */
export class Machine {
  readonly #answers = new Map<Need, string | undefined>();

  constructor(readonly checkout: string) {}

  /** Runs scripts/other-nodes.sh. Settles when it has ended, with or without success. */
  async fetchNodes(signal: AbortSignal): Promise<void> {
    // In a group of its own, so that npm ends with it.
    const child = spawn('bash', ['scripts/other-nodes.sh'], {
      cwd: this.checkout,
      stdio: 'ignore',
      detached: true,
    });
    const stop = (): void => {
      if (child.pid !== undefined) process.kill(-child.pid);
    };
    signal.addEventListener('abort', stop, { once: true });
    await once(child, 'close').catch(() => undefined);
    signal.removeEventListener('abort', stop);
    for (const need of ['node-22', 'node-24'] as const) this.#answers.delete(need);
  }

  /** Why a lane cannot run here; undefined where it can. */
  whyNot(lane: Lane): string | undefined {
    for (const need of lane.needs) {
      if (!this.#answers.has(need)) this.#answers.set(need, this.#ask(need));
      const answer = this.#answers.get(need);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  #ask(need: Need): string | undefined {
    switch (need) {
      case 'root':
        return process.getuid?.() === 0 ? undefined : 'it needs root';
      case 'etcd':
        return has('etcd') ? undefined : 'there is no etcd';
      case 'vxlan':
        // In a namespace of its own, so that two runs do not meet.
        return why(
          'unshare --net ip link add probe type vxlan id 1 dstport 4789',
          'this kernel makes no vxlan device here',
        );
      case 'dockerd':
        return has('dockerd') ? why(ENGINE, "Docker's engine does not run here") : 'there is no dockerd';
      case 'podman':
        return has('podman') && has('/usr/lib/cni/bridge')
          ? why(CGROUPS, 'containers do not run here')
          : 'there is no podman with CNI’s plugins (Debian: podman, containernetworking-plugins)';
      case 'cnitool':
      case 'crictl':
        return why(`bash scripts/cni-client.sh ${need} --check`, '', this.checkout);
      case 'chromium':
        return why('bash scripts/chromium.sh --check', '', this.checkout);
      case 'podman5':
        return (
          why('bash scripts/podman5.sh --check', '', this.checkout) ??
          why(CGROUPS, 'containers do not run here')
        );
      case 'moto':
        return why('bash scripts/moto.sh --check', '', this.checkout);
      case 'packages':
        return (
          why('bash scripts/debian-roots.sh --check', '', this.checkout) ??
          why(
            'ls dist/test/*.deb',
            'there are no packages of this build (npm run test:package)',
            this.checkout,
          )
        );
      case 'last-release':
        return why('bash scripts/last-release.sh --check', '', this.checkout);
      case 'prometheus':
        return why('bash scripts/prometheus.sh --check', '', this.checkout);
      case 'other-kernel':
        return why('bash scripts/vm-kernel.sh --check', '', this.checkout);
      case 'node-22':
      case 'node-24': {
        const version = need === 'node-22' ? '22' : '24';
        return existsSync(otherNode(this.checkout, version))
          ? undefined
          : `Node.js ${version} is not there (bash scripts/other-nodes.sh)`;
      }
    }
  }
}

const has = (program: string): boolean => why(`command -v ${program}`, '') === undefined;

function why(script: string, what: string, cwd?: string): string | undefined {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8', cwd });
  if (status === 0) return undefined;
  const words = `${stdout}${stderr}`.trim();
  return what === '' ? words : `${what} (${words})`;
}
