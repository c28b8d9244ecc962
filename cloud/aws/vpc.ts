// Route tables of a VPC.
import { IpNetwork, type IpAddress } from '../../core/address.js';
import type { CloudMember, CloudNetwork, CloudRoute, CloudStep, CloudTable } from '../../core/cloud.js';
import { aborted, failedPrecondition, notFound } from '../../core/errors.js';
import type { CloudApi, CloudOptions } from '../api.js';
import { Calls } from '../http.js';
import { CredentialSource } from './credentials.js';
import { Ec2, type Element, type Fields } from './ec2.js';
import { Ec2Error } from './errors.js';
import { InstanceMetadata, type Interface } from './metadata.js';

/** The filters of a list. */
const filters = (all: Readonly<Record<string, string>>): Fields =>
  Object.fromEntries(
    Object.entries(all).flatMap(([name, value], i) => [
      [`Filter.${i + 1}.Name`, name],
      [`Filter.${i + 1}.Value.1`, value],
    ]),
  );

export class AwsVpc implements CloudApi {
  readonly #metadata: InstanceMetadata;
  readonly #ec2: Ec2;
  readonly #environment: CloudOptions['environment'];
  #region: string | undefined;
  /** By address: an interface of an instance does not change. */
  readonly #interfaces = new Map<string, Interface>();

  constructor({ signal, environment, backoffMs }: CloudOptions) {
    this.#environment = environment;
    this.#metadata = new InstanceMetadata(environment, signal);
    this.#ec2 = new Ec2({
      calls: new Calls({
        signal,
        ...(backoffMs !== undefined && { backoff: { firstMs: backoffMs, lastMs: 20_000 } }),
      }),
      credentials: new CredentialSource(environment, this.#metadata),
      region: () => this.#regionNow(),
      endpoint: environment['AWS_ENDPOINT_URL_EC2'] || environment['AWS_ENDPOINT_URL'] || undefined,
    });
  }

  async #regionNow(): Promise<string> {
    const { AWS_REGION, AWS_DEFAULT_REGION } = this.#environment;
    this.#region ??= AWS_REGION || AWS_DEFAULT_REGION || (await this.#metadata.region());
    if (this.#region !== undefined) return this.#region;
    throw failedPrecondition(
      'the region of AWS is not known: the instance metadata service does not name it',
      'Set AWS_REGION for this daemon.',
    );
  }

  async hop(member: CloudMember): Promise<string> {
    const { id, vpc, vpcPrefixes } = await this.#interfaceAt(member.ip);
    const overlap = vpcPrefixes.find((prefix) => prefix.overlaps(member.prefix));
    if (overlap !== undefined)
      throw failedPrecondition(
        `network ${member.name}: ${member.prefix.toString()} overlaps ${overlap.toString()} of ${vpc}, and a VPC delivers its own prefix by itself`,
        'Create the network again with a prefix outside of the VPC’s, or move it to a backend with a tunnel.',
      );
    return id;
  }

  /** Switches the source/destination check off: it drops what has another machine's address. */
  async forward(id: string): Promise<void> {
    const [found] = await this.#ec2.list('DescribeNetworkInterfaces', id, 'networkInterfaceSet', {
      'NetworkInterfaceId.1': id,
    });
    if (found?.text('sourceDestCheck') === 'false') return;
    await this.#ec2.call(
      'ModifyNetworkInterfaceAttribute',
      `${id}, to switch its source/destination check off`,
      { NetworkInterfaceId: id, 'SourceDestCheck.Value': 'false' },
      { changes: true },
    );
  }

  async tables(network: CloudNetwork, scope: 'own' | 'all', ip?: IpAddress): Promise<CloudTable[]> {
    const found = await this.#describe(network, scope, ip);
    return found.map((table) => {
      const id = table.text('routeTableId') ?? '';
      return { id, routes: table.items('routeSet').flatMap((route) => routeIn(id, network, route)) };
    });
  }

  async #describe({ tables }: CloudNetwork, scope: 'own' | 'all', ip?: IpAddress): Promise<Element[]> {
    const list = (object: string, fields: Fields): Promise<Element[]> =>
      this.#ec2.list('DescribeRouteTables', object, 'routeTableSet', fields);
    if (tables.length > 0)
      return list(
        tables.join(', '),
        Object.fromEntries(tables.map((id, i) => [`RouteTableId.${i + 1}`, id])),
      );
    const { subnet, vpc } = await this.#interfaceAt(ip);
    if (scope === 'all') return list(vpc, filters({ 'vpc-id': vpc }));
    const own = await list(subnet, filters({ 'association.subnet-id': subnet }));
    if (own.length > 0) return own;
    // A subnet without an association has the main table.
    const main = await list(vpc, filters({ 'association.main': 'true', 'vpc-id': vpc }));
    if (main.length > 0) return main;
    throw notFound(
      `${vpc} has no route table for ${subnet} in ${await this.#regionNow()}`,
      'Name it: --backend-option RouteTableID=rtb-…; is it the right region (AWS_REGION)?',
    );
  }

  async #interfaceAt(ip: IpAddress | undefined): Promise<Interface> {
    const key = ip?.toString() ?? '';
    const found = this.#interfaces.get(key) ?? (await this.#metadata.interfaceOf(ip));
    this.#interfaces.set(key, found);
    return found;
  }

  async apply(step: CloudStep): Promise<void> {
    const { table, to } = step.do === 'create' ? step : step.route;
    const fields = { RouteTableId: table, DestinationCidrBlock: to.toString() };
    const hop: Fields = step.do === 'delete' ? {} : { NetworkInterfaceId: step.hop };
    const [action, expected] = (
      {
        create: ['CreateRoute', 'RouteAlreadyExists'],
        replace: ['ReplaceRoute', 'InvalidParameterValue'],
        delete: ['DeleteRoute', 'InvalidRoute.NotFound'],
      } as const
    )[step.do];
    try {
      await this.#ec2.call(
        action,
        `${to.toString()} in ${table}`,
        { ...fields, ...hop },
        { changes: true, expected: [expected, 'InvalidRoute.NotFound'] },
      );
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
      if (step.do === 'delete') return;
      throw aborted(`the route ${to.toString()} of ${table} has changed meanwhile: ${error.message}`);
    }
  }
}

/** A route inside of the network; its next hop is one of many kinds. */
function routeIn(table: string, { prefix }: CloudNetwork, route: Element): CloudRoute[] {
  const to = IpNetwork.tryParse(route.text('destinationCidrBlock') ?? '');
  if (to === undefined || !prefix.contains(to)) return [];
  const eni = route.text('networkInterfaceId');
  const machine = eni ?? route.text('instanceId');
  const others = [
    'gatewayId',
    'natGatewayId',
    'transitGatewayId',
    'vpcPeeringConnectionId',
    'localGatewayId',
    'carrierGatewayId',
    'coreNetworkArn',
  ];
  const hop = machine ?? others.flatMap((kind) => route.text(kind) ?? [])[0] ?? 'nothing';
  return [{ table, to, hop, isMachine: machine !== undefined || hop === 'nothing' }];
}
