// AWS in a lab: moto's EC2 server on the infrastructure host, an instance and its metadata service for each host, and the
// underlay's router as the VPC's: it forwards by the route tables that moto has.
//
// moto (Apache-2.0) is not asked by weft's own client here. It checks no signature, refuses no second route, and has no quota.
import { XMLParser } from 'fast-xml-parser';

import type { Cluster } from './cluster.js';
import { INFRA, INFRA_IP } from './cluster.js';
import type { Ec2Machine } from './ec2-metadata.js';
import { following } from './following.js';
import { CHECKOUT } from './lab.js';
import type { Cloud } from './prepare.js';

export const MOTO = `${CHECKOUT}/node_modules/.cache/weft-moto/bin/moto_server`;

export const REGION = 'eu-west-1';
export const EC2_PORT = 5000;
const ENDPOINT = `http://${INFRA_IP}:${EC2_PORT}`;
const VPC_PREFIX = '192.0.2.0/24';

/** Keys of the instances' role: secrets, for whoever looks for them in a log. */
export const ROLE = {
  name: 'weft-node',
  accessKeyId: 'ASIAWEFTTESTKEY',
  secretAccessKey: 'the-secret-key-of-the-role',
  token: 'the-session-token-of-the-role',
  expiration: '2100-01-01T00:00:00Z',
};

type Xml = { [name: string]: Xml } & { item?: Xml[] };

const parser = new XMLParser({ parseTagValue: false, isArray: (name) => name === 'item' });

export interface Route {
  table: string;
  to: string;
  /** The network interface, or what else it leads to. */
  hop: string;
}

export class Aws implements Cloud {
  /** It is found by the environment. */
  readonly flags = [];
  readonly machines = new Map<string, Ec2Machine>();
  vpc = '';
  subnet = '';
  /** Routes that the router has from the tables. */
  #forwarded = new Map<string, string>();

  private constructor(private readonly lab: Cluster) {}

  /** Starts moto, and makes a VPC of the underlay with an instance for each host. */
  static async start(lab: Cluster, hosts: readonly string[]): Promise<Aws> {
    const aws = new Aws(lab);
    // The daemons of this test file find AWS as AWS's own tools would.
    process.env['AWS_ENDPOINT_URL_EC2'] = ENDPOINT;
    lab.spawn('moto', INFRA, [MOTO, '-H', INFRA_IP, '-p', String(EC2_PORT)]);
    await lab.until(
      'moto serves',
      async () => (await lab.try(INFRA, `curl -sf ${ENDPOINT}/moto-api/`)).code === 0,
      {
        timeoutMs: 60_000,
      },
    );
    const { vpc } = await aws.call('CreateVpc', { CidrBlock: VPC_PREFIX });
    aws.vpc = text(vpc, 'vpcId');
    const { subnet } = await aws.call('CreateSubnet', { VpcId: aws.vpc, CidrBlock: '192.0.2.0/25' });
    aws.subnet = text(subnet, 'subnetId');
    // In a cloud's network nobody is told of a shorter way.
    await lab.sh(
      'outside',
      'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0',
    );
    for (const host of [INFRA, ...hosts]) await aws.#launch(host);
    return aws;
  }

  async #launch(host: string): Promise<void> {
    const ip = this.lab.ipOf(host);
    const { instancesSet } = await this.call('RunInstances', {
      ...{ ImageId: 'ami-0', MinCount: '1', MaxCount: '1' },
      ...{ SubnetId: this.subnet, PrivateIpAddress: ip },
    });
    const [instance] = instancesSet?.item ?? [];
    const [nic] = instance?.['networkInterfaceSet']?.item ?? [];
    const machine: Ec2Machine = {
      ...{ region: REGION, subnet: this.subnet, vpc: this.vpc, vpcPrefixes: [VPC_PREFIX], ip, role: ROLE },
      instance: text(instance, 'instanceId'),
      interface: text(nic, 'networkInterfaceId'),
    };
    this.machines.set(host, machine);
    await this.lab.sh(host, 'ip address add 169.254.169.254/32 dev lo');
    const service = this.lab.spawn(`metadata-${host}`, host, [
      ...[process.execPath, `${CHECKOUT}/build/test/lab/ec2-metadata.js`, '169.254.169.254:80'],
      JSON.stringify(machine),
    ]);
    await this.lab.says(service, 'serves');
  }

  machine(host: string): Ec2Machine {
    const found = this.machines.get(host);
    if (found === undefined) throw new Error(`${host} is no instance`);
    return found;
  }

  /** A call of the EC2 API. @throws Error where it is refused */
  async call(action: string, fields: Readonly<Record<string, string>>): Promise<Xml> {
    const body = new URLSearchParams({ Action: action, Version: '2016-11-15', ...fields });
    const header = `Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/${REGION}/ec2/aws4_request, SignedHeaders=host, Signature=0`;
    const out = await this.lab.sh(INFRA, `curl -s -H '${header}' --data '${body.toString()}' ${ENDPOINT}/`);
    const document = parser.parse(out) as Xml;
    const answer = document[`${action}Response`];
    if (answer === undefined) throw new Error(`${action}: ${out}`);
    return answer;
  }

  /** All routes of the VPC but its own, sorted. */
  async routes(): Promise<Route[]> {
    const { routeTableSet } = await this.call('DescribeRouteTables', {
      'Filter.1.Name': 'vpc-id',
      'Filter.1.Value.1': this.vpc,
    });
    return (routeTableSet?.item ?? [])
      .flatMap((table) =>
        (table['routeSet']?.item ?? []).map((route) => ({
          table: text(table, 'routeTableId'),
          to: text(route, 'destinationCidrBlock'),
          hop: text(route, 'networkInterfaceId') || text(route, 'instanceId') || text(route, 'gatewayId'),
        })),
      )
      .filter(({ to }) => to !== VPC_PREFIX)
      .toSorted((a, b) => (`${a.to} ${a.table}` < `${b.to} ${b.table}` ? -1 : 1));
  }

  /** `10.100.5.0/24 h1` for each route to a host. */
  async shown(): Promise<string[]> {
    const hosts = new Map([...this.machines].map(([host, machine]) => [machine.interface, host]));
    return (await this.routes()).map(({ to, hop }) => `${to} ${hosts.get(hop) ?? hop}`);
  }

  async forward(): Promise<void> {
    const ips = new Map([...this.machines.values()].map((machine) => [machine.interface, machine.ip]));
    const wanted = new Map((await this.routes()).map(({ to, hop }) => [to, ips.get(hop) ?? '']));
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

  mainTable = async (): Promise<string> => {
    const { routeTableSet } = await this.call('DescribeRouteTables', {
      ...{ 'Filter.1.Name': 'vpc-id', 'Filter.1.Value.1': this.vpc },
      ...{ 'Filter.2.Name': 'association.main', 'Filter.2.Value.1': 'true' },
    });
    return text(routeTableSet?.item?.[0], 'routeTableId');
  };
}

/** The text of an element within; empty where there is none. */
export function text(element: Xml | undefined, name: string): string {
  const value: unknown = element?.[name];
  return typeof value === 'string' ? value : '';
}
