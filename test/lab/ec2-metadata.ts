// The instance metadata service of EC2, version 2, as an instance sees it: what one machine is, and its role's credentials.
//
//   node build/test/lab/ec2-metadata.js ADDRESS:PORT JSON
import { createServer, type RequestListener } from 'node:http';
import { pathToFileURL } from 'node:url';

export interface Ec2Machine {
  region: string;
  instance: string;
  interface: string;
  subnet: string;
  vpc: string;
  vpcPrefixes: readonly string[];
  ip: string;
  /** Absent: the instance has no role. */
  role?:
    | { name: string; accessKeyId: string; secretAccessKey: string; token: string; expiration: string }
    | undefined;
}

const MAC = '02:00:00:00:00:0b';
const TOKEN = 'a-session-of-the-metadata-service';

/** The items by their paths below /latest/. */
function itemsOf(machine: Ec2Machine): Map<string, string> {
  const { region, instance, subnet, vpc, vpcPrefixes, ip, role } = machine;
  const nic = `meta-data/network/interfaces/macs/${MAC}`;
  const items = new Map([
    ['meta-data/placement/region', region],
    ['meta-data/instance-id', instance],
    ['meta-data/network/interfaces/macs/', `${MAC}/`],
    [`${nic}/local-ipv4s`, ip],
    [`${nic}/interface-id`, machine.interface],
    [`${nic}/subnet-id`, subnet],
    [`${nic}/vpc-id`, vpc],
    [`${nic}/vpc-ipv4-cidr-blocks`, vpcPrefixes.join('\n')],
  ]);
  if (role === undefined) return items;
  const path = 'meta-data/iam/security-credentials/';
  items.set(path, role.name);
  items.set(
    `${path}${role.name}`,
    JSON.stringify({
      Code: 'Success',
      Type: 'AWS-HMAC',
      AccessKeyId: role.accessKeyId,
      SecretAccessKey: role.secretAccessKey,
      Token: role.token,
      Expiration: role.expiration,
    }),
  );
  return items;
}

/** @param machine asked at each request: it may change */
export const ec2Metadata =
  (machine: () => Ec2Machine): RequestListener =>
  (request, response) => {
    const path = (request.url ?? '').replace(/^\/latest\//, '');
    const answer = (status: number, text = ''): void => void response.writeHead(status).end(text);
    if (request.method === 'PUT' && path === 'api/token')
      return answer(request.headers['x-aws-ec2-metadata-token-ttl-seconds'] === undefined ? 400 : 200, TOKEN);
    // Version 1, without a token, is off.
    if (request.headers['x-aws-ec2-metadata-token'] !== TOKEN) return answer(401);
    const item = itemsOf(machine()).get(path);
    return item === undefined ? answer(404) : answer(200, item);
  };

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , listen = '', json = ''] = process.argv;
  const machine = JSON.parse(json) as Ec2Machine;
  const [host, port] = listen.split(':');
  createServer(ec2Metadata(() => machine)).listen(Number(port), host, () => console.log('serves'));
}
