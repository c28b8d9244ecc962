// Users and roles of an etcd that is weft's own: what a node or a flanneld may write there.
//
// A user's name is the common name of its certificate; it has no password. A role grants exact keys, or all below a key that
// ends with "/": h1 must not grant h1x. Every user reads all below the prefix.
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
}

const ROOT = 'root';

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
        // Whose a lease or a claim is stands in its value, which readers check: flannel's keys have no room for it.
        rangeOf(keys.networks()),
        rangeOf(keys.removals('network')),
        rangeOf(keys.proposals()),
        exact(keys.allocated()),
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
  const addUser = async (name: string, role: string): Promise<void> => {
    await call((auth, options) => auth.userAdd({ name, options: { no_password: true } }, options));
    await call((auth, options) => auth.userGrantRole({ user: name, role }, options));
  };

  return {
    enable: async () => {
      if (!(await roles()).includes(ROOT))
        await call((auth, options) => auth.roleAdd({ name: ROOT }, options));
      if (!(await users()).includes(ROOT)) await addUser(ROOT, ROOT);
      await call((auth, options) => auth.authEnable(options));
    },
    ensure: async (wanted) => {
      if (wanted.length === 0) return;
      const [haveUsers, haveRoles] = [new Set(await users()), new Set(await roles())];
      for (const user of wanted) {
        const [name, role] = [nameOf(user), roleOf(user)];
        if (haveUsers.has(name) && haveRoles.has(role)) continue;
        const { read, write } = rightsOf(user);
        // From a start that was interrupted: the user comes last.
        if (!haveRoles.has(role)) await call((auth, options) => auth.roleAdd({ name: role }, options));
        for (const [ranges, permType] of [
          [read, 'Read'],
          [write, 'Readwrite'],
        ] as const)
          for (const range of ranges) {
            const request = { name: role, perm: { permType, ...range } };
            await call((auth, options) => auth.roleGrantPermission(request, options));
          }
        if (haveUsers.has(name))
          await call((auth, options) => auth.userGrantRole({ user: name, role }, options));
        else await addUser(name, role);
      }
    },
    delete: async (user) => {
      const [name, role] = [nameOf(user), roleOf(user)];
      if ((await users()).includes(name)) await call((auth, options) => auth.userDelete({ name }, options));
      if ((await roles()).includes(role)) await call((auth, options) => auth.roleDelete({ role }, options));
    },
  };
}
