// Google Cloud in a lab: the stand-in of the Compute API on the infrastructure host, an instance and its metadata server for each
// host, and the underlay's router as the VPC network's: it forwards by the routes that the stand-in has.
import { INFRA, INFRA_IP, type Cluster } from './cluster.js';
import { TOKEN, type GceProject } from './gce.js';
import { CHECKOUT } from './lab.js';
import { following } from './following.js';
import type { Cloud } from './prepare.js';

const API = `${INFRA_IP}:5100`;
const ZONE = 'europe-west1-b';
const SCRIPT = `${CHECKOUT}/build/test/lab/gce.js`;

export interface GceRoute {
  name: string;
  destRange: string;
  /** The last part of its URL is the instance. */
  nextHopInstance: string;
}

export class GceLab implements Cloud {
  readonly flags = ['--gce-endpoint', `http://${API}`];
  /** Routes that the router has from the network, by destination. */
  #forwarded = new Map<string, string>();

  private constructor(private readonly lab: Cluster) {}

  static async start(lab: Cluster, hosts: readonly string[]): Promise<GceLab> {
    const project: GceProject = {
      ...{ project: 'lab', networks: ['default'], quota: 250, denied: [], throttled: 0, looks: 2 },
      instances: Object.fromEntries(
        [INFRA, ...hosts].map((name) => [name, { zone: ZONE, canIpForward: true }]),
      ),
    };
    const serves = async (name: string, where: string, ...argv: string[]): Promise<void> => {
      const argument = [process.execPath, SCRIPT, ...argv];
      await lab.says(lab.spawn(name, where, argument), 'serves');
    };
    await serves('compute', INFRA, 'compute', API, JSON.stringify(project));
    for (const name of [INFRA, ...hosts]) {
      await lab.sh(name, 'ip address add 169.254.169.254/32 dev lo');
      const machine = { project: 'lab', zone: ZONE, name, ip: lab.ipOf(name), network: 'default' };
      await serves(`metadata-${name}`, name, 'metadata', '169.254.169.254:80', JSON.stringify(machine));
    }
    // In a cloud's network nobody is told of a shorter way.
    await lab.sh(
      'outside',
      'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0',
    );
    return new GceLab(lab);
  }

  #compute(path: string): Promise<string> {
    const url = `http://${API}/compute/v1/projects/lab/${path}`;
    return this.lab.sh(INFRA, `curl -s -H 'Authorization: Bearer ${TOKEN}' '${url}'`);
  }

  async routes(): Promise<GceRoute[]> {
    const found: GceRoute[] = [];
    for (let token: string | undefined = ''; token !== undefined;) {
      const page = JSON.parse(await this.#compute(`global/routes?pageToken=${token}`)) as {
        items: GceRoute[];
        nextPageToken?: string;
      };
      found.push(...page.items);
      token = page.nextPageToken;
    }
    return found;
  }

  /** `NAME INSTANCE` of each route, sorted. */
  async shown(): Promise<string[]> {
    return (await this.routes()).map((route) => `${route.name} ${instanceOf(route)}`).toSorted();
  }

  /** Changes what the project is from now on. */
  async become(state: Partial<GceProject>): Promise<void> {
    await this.lab.sh(INFRA, `curl -s --data '${JSON.stringify(state)}' http://${API}/state`);
  }

  async forward(): Promise<void> {
    const wanted = new Map(
      (await this.routes()).map((route) => [route.destRange, this.lab.ipOf(instanceOf(route))]),
    );
    const gone = [...this.#forwarded.keys()].filter((to) => !wanted.has(to));
    const commands = [
      ...gone.map((to) => `ip route del ${to}`),
      ...[...wanted].map(([to, ip]) => `ip route replace ${to} via ${ip}`),
    ];
    this.#forwarded = wanted;
    if (commands.length > 0) await this.lab.sh('outside', commands.join(' && '));
  }

  follow(): () => Promise<void> {
    return following(() => this.forward());
  }
}

const instanceOf = ({ nextHopInstance }: GceRoute): string => nextHopInstance.split('/').at(-1) ?? '';
