// Hosts of a lab with a containerd of their own, for its clients ctr and crictl.
//
// ctr looks for plugins and configurations in the usual folders, which are the host's own here. Containers are in cgroups named
// after the run.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { CniHost, cniHosts, PLUGINS } from './cni-host.js';
import { makeImage } from './docker.js';
import { exec, must, type Outcome } from './exec.js';
import { CHECKOUT } from './lab.js';
import type { LabProcess } from './process.js';

export const IMAGE = 'localhost/busybox:latest';
/** scripts/cni-client.sh */
const CRICTL = join(CHECKOUT, 'node_modules/.cache/weft-cni/v1.34.0/crictl');
const SOCKET = '/run/containerd/containerd.sock';

export class ContainerdHost extends CniHost {
  #containerd: LabProcess | undefined;
  #starts = 0;

  override get binDir(): string {
    return '/opt/cni/bin';
  }

  override get confDir(): string {
    return '/etc/cni/net.d';
  }

  get containerd(): LabProcess {
    if (this.#containerd === undefined) throw new Error(`no containerd on ${this.name}`);
    return this.#containerd;
  }

  override async up(): Promise<void> {
    for (const part of ['opt/cni/bin', 'net.d']) mkdirSync(join(this.folder, part), { recursive: true });
    // Kubernetes' part of containerd starts it for every pod.
    symlinkSync(join(PLUGINS, 'loopback'), join(this.folder, 'opt/cni/bin/loopback'));
    await this.hold([
      `mount --bind ${this.folder}/opt /opt`,
      `mount --bind ${this.folder}/net.d /etc/cni/net.d`,
    ]);
    writeFileSync(
      join(this.folder, 'containerd.toml'),
      [
        'version = 2',
        `root = "${this.folder}/containerd"`,
        'state = "/run/containerd"',
        '[grpc]',
        `address = "${SOCKET}"`,
        '[plugins."io.containerd.grpc.v1.cri"]',
        `sandbox_image = "${IMAGE}"`,
        'restrict_oom_score_adj = true',
        '[plugins."io.containerd.grpc.v1.cri".containerd]',
        'snapshotter = "native"',
        '',
      ].join('\n'),
    );
    await this.startContainerd();
  }

  async startContainerd(): Promise<void> {
    const containerd = this.spawn(`containerd${++this.#starts}`, [
      ...['containerd', '--config', join(this.folder, 'containerd.toml')],
    ]);
    this.#containerd = containerd;
    await this.lab.until('containerd serves', async () => {
      if (!containerd.isRunning) throw new Error('it has ended');
      return (await this.ctr('version')).code === 0;
    });
  }

  ctr(...args: string[]): Promise<Outcome> {
    return exec(this.inside(['ctr', '-a', SOCKET, ...args]), { timeoutMs: 60_000 });
  }

  /** The words of `ctr run` for a container of busybox. */
  run(name: string, detach: boolean, ...command: string[]): string[] {
    return [
      ...['run', ...(detach ? ['-d'] : ['--rm']), '--cni', '--cgroup', `/${this.namespace}/${name}`],
      ...['--env', 'PATH=/bin'],
      ...['--rootfs', join(this.lab.folder, 'image'), name, ...command],
    ];
  }

  /** What crictl printed. @throws Error where it fails */
  crictl(...args: string[]): Promise<string> {
    return must(
      this.inside([CRICTL, '-r', `unix://${SOCKET}`, '-i', `unix://${SOCKET}`, '-t', '30s', ...args]),
      {
        timeoutMs: 60_000,
      },
    );
  }

  /** Starts a pod with a container that waits; returns both ids. */
  async pod(name: string, ports: readonly object[] = []): Promise<{ pod: string; container: string }> {
    const [pod, container] = [`${name}-pod.json`, `${name}.json`].map((file) => join(this.folder, file));
    if (pod === undefined || container === undefined) throw new Error('no paths');
    writeFileSync(
      pod,
      JSON.stringify({
        metadata: { name, namespace: 'shop', uid: `${name}-uid`, attempt: 0 },
        port_mappings: ports,
        linux: { cgroup_parent: `/${this.namespace}` },
      }),
    );
    writeFileSync(
      container,
      JSON.stringify({ metadata: { name }, image: { image: IMAGE }, command: ['sleep', '1000000'] }),
    );
    const podId = (await this.crictl('runp', pod)).trim();
    const id = (await this.crictl('create', podId, container, pod)).trim();
    await this.crictl('start', id);
    return { pod: podId, container: id };
  }

  /** Gives containerd the image of busybox, which also is what a pod's own container runs. */
  async import(rootfs: string): Promise<void> {
    const folder = join(this.folder, 'image-archive');
    mkdirSync(folder);
    copyFileSync(rootfs, join(folder, 'layer.tar'));
    const digest = createHash('sha256').update(readFileSync(rootfs)).digest('hex');
    const config = {
      ...{ architecture: process.arch === 'x64' ? 'amd64' : process.arch, os: 'linux' },
      config: { Cmd: ['sleep', '1000000'], Env: ['PATH=/bin'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    };
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    writeFileSync(
      join(folder, 'manifest.json'),
      JSON.stringify([{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }]),
    );
    await must(['tar', '-C', folder, '-cf', `${folder}.tar`, '.']);
    const { code, stderr } = await this.ctr('-n', 'k8s.io', 'images', 'import', `${folder}.tar`);
    if (code !== 0) throw new Error(`ctr images import: ${stderr}`);
  }
}

/** Turns a host of a cluster into such a host; call it before its agent starts. */
export async function containerdHost(cluster: Cluster, name: string): Promise<ContainerdHost> {
  const [, [host]] = await Promise.all([makeImage(cluster.lab), cniHosts(cluster, [name], ContainerdHost)]);
  if (host === undefined) throw new Error('no host');
  return host;
}
