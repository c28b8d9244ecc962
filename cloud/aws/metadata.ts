// The instance metadata service of EC2, version 2: what this machine is, and the keys of its role.
//
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
import type { IpAddress } from '../../core/address.js';
import { IpAddress as Ip, IpNetwork } from '../../core/address.js';
import { failedPrecondition, unavailable, WeftError } from '../../core/errors.js';
import { send, type HttpAnswer } from '../http.js';

const ENDPOINT = 'http://169.254.169.254';
/** It is a machine's own neighbour; where it is not there, nothing answers. */
const TIMEOUT_MS = 2_000;
const TOKEN_SECONDS = 21_600;

/** A network interface of this machine. */
export interface Interface {
  id: string;
  subnet: string;
  vpc: string;
  vpcPrefixes: IpNetwork[];
}

export class InstanceMetadata {
  readonly #endpoint: string;
  readonly #isOff: boolean;
  #token: { text: string; until: number } | undefined;

  constructor(
    environment: Readonly<Record<string, string | undefined>>,
    private readonly signal: AbortSignal,
  ) {
    this.#endpoint = (environment['AWS_EC2_METADATA_SERVICE_ENDPOINT'] || ENDPOINT).replace(/\/$/, '');
    this.#isOff = environment['AWS_EC2_METADATA_DISABLED'] === 'true';
  }

  /** @returns undefined where there is no such item @throws WeftError UNAVAILABLE */
  async get(path: string): Promise<string | undefined> {
    let answer = await this.#ask(path);
    if (answer.status === 401) {
      // The service was restarted with the machine, or the token has ended.
      this.#token = undefined;
      answer = await this.#ask(path);
    }
    if (answer.status === 404) return undefined;
    if (answer.status === 200) return answer.text.trim();
    throw unavailable(
      `the instance metadata service answers ${answer.status} to ${path}`,
      'See the metadata options of the instance (aws ec2 describe-instances): the endpoint must be enabled.',
    );
  }

  async #ask(path: string): Promise<HttpAnswer> {
    const token = await this.#tokenNow();
    return this.#send({
      url: `${this.#endpoint}/latest/${path}`,
      headers: { 'X-aws-ec2-metadata-token': token },
    });
  }

  async #tokenNow(): Promise<string> {
    const now = performance.now();
    if (this.#token !== undefined && now < this.#token.until) return this.#token.text;
    const { status, text } = await this.#send({
      url: `${this.#endpoint}/latest/api/token`,
      method: 'PUT',
      headers: { 'X-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS) },
    });
    if (status !== 200)
      throw unavailable(
        `the instance metadata service gives no token (${status})`,
        'See the metadata options of the instance: the endpoint must be enabled.',
      );
    this.#token = { text, until: now + (TOKEN_SECONDS / 2) * 1000 };
    return text;
  }

  async #send(request: Omit<Parameters<typeof send>[0], 'what' | 'timeoutMs'>): Promise<HttpAnswer> {
    if (this.#isOff)
      throw failedPrecondition(
        'AWS_EC2_METADATA_DISABLED is set, so this machine does not know its instance',
        'Unset it for this daemon.',
      );
    try {
      return await send({ what: 'instance metadata', timeoutMs: TIMEOUT_MS, ...request }, this.signal);
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      throw unavailable(
        error.message,
        'This must be an EC2 instance with the instance metadata service enabled; inside a container it needs a hop limit of 2.',
        { cause: error },
      );
    }
  }

  region(): Promise<string | undefined> {
    return this.get('meta-data/placement/region');
  }

  instance(): Promise<string | undefined> {
    return this.get('meta-data/instance-id');
  }

  /** The interfaces by their MAC addresses. */
  async #macs(): Promise<string[]> {
    const text = (await this.get('meta-data/network/interfaces/macs/')) ?? '';
    return text.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim().replace(/\/$/, '')]));
  }

  /** The interface with this address; without one, the first. @throws WeftError FAILED_PRECONDITION */
  async interfaceOf(ip: IpAddress | undefined): Promise<Interface> {
    for (const mac of await this.#macs()) {
      const of = (item: string): Promise<string> => this.#of(mac, item);
      if (ip !== undefined) {
        const there = (await of('local-ipv4s')).split('\n').map((text) => Ip.tryParse(text.trim()));
        if (!there.some((one) => one?.equals(ip) === true)) continue;
      }
      const [id, subnet, vpc, prefixes] = [
        await of('interface-id'),
        await of('subnet-id'),
        await of('vpc-id'),
        await of('vpc-ipv4-cidr-blocks'),
      ];
      const vpcPrefixes = prefixes.split('\n').flatMap((text) => IpNetwork.tryParse(text.trim()) ?? []);
      return { id, subnet, vpc, vpcPrefixes };
    }
    const instance = await this.instance();
    throw failedPrecondition(
      `no network interface of instance ${instance ?? '?'} has the address ${ip?.toString() ?? ''}`,
      'Name one of its own addresses with --underlay-ip.',
    );
  }

  async #of(mac: string, item: string): Promise<string> {
    return (await this.get(`meta-data/network/interfaces/macs/${mac}/${item}`)) ?? '';
  }
}
