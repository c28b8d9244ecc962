// Users and roles of an etcd that is weft's own: what a node or a flanneld may write there.
//
// A user's name is the common name of its certificate; it has no password. A role grants exact keys, or all below a key that
// ends with "/": h1 must not grant h1x. Every user reads all below the prefix. What nodes share, the records of networks, is
// in one role of all nodes, network by network, for the config in the midst of them is not theirs to write
// (docs/decisions/0025).
import type { Etcd3, IResponseHeader } from 'etcd3';

import { rangeOf, type KeyRange } from './keys.js';
import type { Context } from './transaction.js';

/** Whom a certificate gives rights in etcd. */
export type EtcdUser =
  { readonly kind: 'node'; readonly name: string } | { readonly kind: 'flannel'; readonly network: string };

export interface EtcdUsers {
  /** Turns authentication on, with `root` as the superuser. @throws WeftError UNAVAILABLE */
  enable(): Promise<void>;
  /** Gives these users their roles; whoever has one keeps it. @throws WeftError UNAVAILABLE */
  ensure(users: readonly EtcdUser[]): Promise<void>;
  /** A missing user is no error. @throws WeftError UNAVAILABLE */
  delete(user: EtcdUser): Promise<void>;
  /** Names of the networks whose records, all but the config, nodes may write. @throws WeftError UNAVAILABLE */
  openNetworks(): Promise<string[]>;
  /** @throws WeftError UNAVAILABLE */
  openNetwork(name: string): Promise<void>;
  /** @throws WeftError UNAVAILABLE */
  closeNetwork(name: string): Promise<void>;
}

const ROOT = 'root';
/** The role of all nodes: the others contain a colon, or are root's. */
const NODES = 'nodes';

interface Rights {
  read: readonly KeyRange[];
  write: readonly KeyRange[];
}

export function etcdUsersOf({ client, keys }: Context): EtcdUsers {
  const exact = (key: string): KeyRange => ({ key: Buffer.from(key), range_end: Buffer.alloc(0) });
  const rightsOf = (user: EtcdUser): Rights => {
    if (user.kind === 'flannel')
      return { read: [rangeOf(keys.network(user.network))], write: [rangeOf(keys.subnets(user.network))] };
    const { name } = user;
    return {
      read: [keys.all()],
      write: [
        exact(keys.node(name)),
        rangeOf(`${keys.node(name)}/`),
        exact(keys.removal('node', name)),
        rangeOf(keys.proposals()),
      ],
    };
  };
  const nameOf = (user: EtcdUser): string => (user.kind === 'node' ? user.name : `flannel:${user.network}`);
  const roleOf = (user: EtcdUser): string =>
    user.kind === 'node' ? `node:${user.name}` : `flannel:${user.network}`;

  const call = <T extends { header?: IResponseHeader }>(
    method: (auth: Etcd3['auth'], options: { deadline: number }) => Promise<T>,
  ): Promise<T> => client.authorize((etcd, options) => method(etcd.auth, options));
  const users = async (): Promise<string[]> =>
    (await call((auth, options) => auth.userList(options))).users ?? [];
  const roles = async (): Promise<string[]> =>
    (await call((auth, options) => auth.roleList(options))).roles ?? [];
  const addRole = (name: string): Promise<unknown> =>
    call((auth, options) => auth.roleAdd({ name }, options));
  const grantRole = (user: string, role: string): Promise<unknown> =>
    call((auth, options) => auth.userGrantRole({ user, role }, options));
  const grant = (name: string, range: KeyRange, permType: 'Read' | 'Readwrite'): Promise<unknown> =>
    call((auth, options) => auth.roleGrantPermission({ name, perm: { permType, ...range } }, options));
  /** In the etcd that was compared last. */
  let isNodesRoleMade = false;
  const makeNodesRole = async (there: readonly string[]): Promise<void> => {
    if (!there.includes(NODES)) await addRole(NODES);
    isNodesRoleMade = true;
  };
  const addUser = async (name: string, rolesOfIt: readonly string[]): Promise<void> => {
    await call((auth, options) => auth.userAdd({ name, options: { no_password: true } }, options));
    for (const role of rolesOfIt) await grantRole(name, role);
  };
  /** Whose a lease or a claim is stands in its value, which readers check: flannel's keys have no room for it. */
  const besideConfig = (network: string): KeyRange[] => {
    const { key, range_end } = rangeOf(keys.network(network));
    const config = Buffer.from(keys.config(network));
    return [
      { key, range_end: config },
      { key: Buffer.concat([config, Buffer.alloc(1)]), range_end },
    ];
  };

  return {
    enable: async () => {
      if (!(await roles()).includes(ROOT)) await addRole(ROOT);
      if (!(await users()).includes(ROOT)) await addUser(ROOT, [ROOT]);
      await call((auth, options) => auth.authEnable(options));
    },
    ensure: async (wanted) => {
      if (wanted.length === 0) return;
      const [haveUsers, haveRoles] = [new Set(await users()), new Set(await roles())];
      await makeNodesRole([...haveRoles]);
      for (const user of wanted) {
        const [name, role] = [nameOf(user), roleOf(user)];
        if (haveUsers.has(name) && haveRoles.has(role)) continue;
        const { read, write } = rightsOf(user);
        // From a start that was interrupted: the user comes last.
        if (!haveRoles.has(role)) await addRole(role);
        for (const range of read) await grant(role, range, 'Read');
        for (const range of write) await grant(role, range, 'Readwrite');
        if (haveUsers.has(name)) await grantRole(name, role);
        else await addUser(name, user.kind === 'node' ? [role, NODES] : [role]);
      }
    },
    delete: async (user) => {
      const [name, role] = [nameOf(user), roleOf(user)];
      if ((await users()).includes(name)) await call((auth, options) => auth.userDelete({ name }, options));
      if ((await roles()).includes(role)) await call((auth, options) => auth.roleDelete({ role }, options));
    },
    openNetworks: async () => {
      await makeNodesRole(await roles());
      const { perm } = await call((auth, options) => auth.roleGet({ role: NODES }, options));
      const granted = new Set((perm ?? []).map(({ key }) => key.toString()));
      const start = keys.networks();
      return [...granted]
        .filter((key) => key.startsWith(start) && key.endsWith('/'))
        .map((key) => key.slice(start.length, -1))
        .filter((name) => besideConfig(name).every(({ key }) => granted.has(key.toString())));
    },
    openNetwork: async (name) => {
      if (!isNodesRoleMade) await makeNodesRole(await roles());
      for (const range of besideConfig(name)) await grant(NODES, range, 'Readwrite');
    },
    closeNetwork: async (name) => {
      for (const range of besideConfig(name))
        await call((auth, options) => auth.roleRevokePermission({ role: NODES, ...range }, options));
    },
  };
}
