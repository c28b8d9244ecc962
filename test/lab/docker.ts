// Docker hosts in a lab, each with a dockerd of its own.
//
// The mount and UTS namespaces are the host's own (own-run.ts), so that /etc/docker and the plugin sockets are, too. All files
// are in the run's folder or in the host's namespaces, containers are in cgroups named after the run, and everything ends with
// the run, however that ends.
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { exec, must, type ExecOptions, type Outcome } from './exec.js';
import type { Lab } from './lab.js';
import { OwnRunHost } from './own-run.js';
import type { LabProcess } from './process.js';
import { ping, type PingOptions, type PingResult } from './traffic.js';
import { until } from './wait.js';

/** Debian's own client, which matches its engine; another one may come first in PATH. */
const CLIENT = existsSync('/usr/bin/docker') ? '/usr/bin/docker' : 'docker';
export const IMAGE = 'busybox';
/** The plugin socket, inside the host. */
export const PLUGIN_SOCKET = '/run/docker/plugins/weft.sock';

/** A host of the lab, entered as the processes on it see it: with its own /run. */
export class DockerHost extends OwnRunHost {
  #dockerd: LabProcess | undefined;
  #starts = 0;

  constructor(
    lab: Lab,
    name: string,
    number: number,
    private readonly options: readonly string[] = [],
  ) {
    super(lab, name, number);
  }

  /** Its engine's socket, on the machine. */
  get engine(): string {
    return join(this.folder, 'docker.sock');
  }

  get dockerd(): LabProcess {
    if (this.#dockerd === undefined) throw new Error(`no dockerd on ${this.name}`);
    return this.#dockerd;
  }

  async up(): Promise<void> {
    const { folder } = this;
    for (const part of ['docker-data', 'docker-etc']) mkdirSync(join(folder, part), { recursive: true });
    mkdirSync('/etc/docker', { recursive: true });
    await this.hold([
      // On a tmpfs overlay2 works with any disk; it ends with the namespace.
      `mount -t tmpfs weft-docker ${folder}/docker-data`,
      'mkdir -p /run/docker/plugins /etc/docker',
      `mount --bind ${folder}/docker-etc /etc/docker`,
    ]);
    await this.startDocker();
  }

  /** @param options instead of those that it was made with */
  async startDocker(options = this.options): Promise<void> {
    const { folder } = this;
    // Left by a killed engine: the next one would wait for the process that has this pid now.
    for (const left of ['dockerd.pid', 'own-run/docker/containerd/containerd.pid'])
      rmSync(join(folder, left), { force: true });
    this.#dockerd = this.spawn(`dockerd${++this.#starts}`, [
      'dockerd',
      ...['--data-root', join(folder, 'docker-data'), '--exec-root', '/run/docker'],
      ...['--pidfile', join(folder, 'dockerd.pid'), '-H', `unix://${this.engine}`],
      // The default path of the engine's socket.
      ...['-H', 'unix:///run/docker.sock'],
      ...['--cgroup-parent', `/${this.namespace}`, '--storage-driver', 'overlay2'],
      ...options,
    ]);
    const dockerd = this.#dockerd;
    await until(
      `Docker on ${this.name}`,
      async () => {
        if (!dockerd.isRunning) throw new Error('it has ended');
        return (await this.docker('version')).code === 0;
      },
      { timeoutMs: 60_000, context: () => dockerd.tail() },
    );
  }

  async import(image: string): Promise<void> {
    await this.ask('import', '-c', 'ENV PATH=/bin', '-c', 'CMD ["sleep", "infinity"]', image, IMAGE);
  }

  /** Docker's command on this host. */
  docker(...args: string[]): Promise<Outcome> {
    return exec([CLIENT, '-H', `unix://${this.engine}`, ...args], { timeoutMs: 90_000 });
  }

  /** As `docker`; returns what it printed. @throws Error where it fails */
  async ask(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.docker(...args);
    if (code !== 0)
      throw new Error(`${this.name}: docker ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`);
    return stdout.trim();
  }

  async inspect<T>(...args: string[]): Promise<T> {
    const [first] = JSON.parse(await this.ask(...args)) as T[];
    if (first === undefined) throw new Error(`docker ${args.join(' ')} answered nothing`);
    return first;
  }

  /** A shell command in a container. */
  in(container: string, command: string): Promise<Outcome> {
    return this.docker('exec', container, 'sh', '-c', command);
  }

  /** The machine's own ping, in a container's network namespace. */
  async pingFrom(container: string, to: string, options: PingOptions): Promise<PingResult> {
    const pid = await this.ask('inspect', '-f', '{{.State.Pid}}', container);
    return ping({ exec: (argv) => exec(['nsenter', '-t', pid, '-n', '--', ...argv]) }, to, options);
  }

  /** Sends the plugin a request as Docker does: raw HTTP. */
  async plugin(
    method: string,
    body: object | string = '',
    options: ExecOptions & { flags?: string[] } = {},
  ): Promise<unknown> {
    const { flags = [], ...how } = options;
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const out = await must(
      this.inside([
        ...[
          'curl',
          '-s',
          '--max-time',
          '20',
          '--unix-socket',
          PLUGIN_SOCKET,
          '-X',
          'POST',
          '-H',
          'Content-Type:',
        ],
        ...[...flags, '--data-binary', text, `http://plugin/${method}`],
      ]),
      how,
    );
    return JSON.parse(out) as unknown;
  }
}

/** Turns hosts of a cluster into Docker hosts, at once; their agents serve the plugin socket. */
export async function dockerHosts(
  cluster: Cluster,
  names: readonly string[],
  options: readonly string[] = [],
): Promise<DockerHost[]> {
  const image = await makeImage(cluster.lab);
  return Promise.all(
    names.map(async (name) => {
      const { ip } = cluster.lab.host(Number(name.slice(1)));
      const host = new DockerHost(cluster.lab, name, Number(ip.split('.')[3]), options);
      await host.up();
      await host.import(image);
      cluster.dockerHost(name, host, [
        ...['--cnm-socket', PLUGIN_SOCKET, '--docker', `unix://${host.engine}`],
      ]);
      return host;
    }),
  );
}

/** An image with busybox alone. */
export async function makeImage(lab: Lab): Promise<string> {
  const root = join(lab.folder, 'image');
  const tar = join(lab.folder, 'image.tar');
  for (const part of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root'])
    mkdirSync(join(root, part), { recursive: true });
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  await must([
    'sh',
    '-c',
    `cp /bin/busybox ${root}/bin/ && for a in $(busybox --list); do [ $a = busybox ] || ln -sf busybox ${root}/bin/$a; done && tar -C ${root} -cf ${tar} .`,
  ]);
  return tar;
}
