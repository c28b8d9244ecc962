// Opens a container's network namespace while work is done in it.
import { invalidArgument, notFound, WeftError } from '../../core/errors.js';
import type { Sandbox } from '../../core/records.js';
import type { Kernel, KernelNamespace } from '../kernel/index.js';
import type { Target } from './targets.js';

/** @throws WeftError NOT_FOUND where the namespace is absent, INVALID_ARGUMENT where it is the network of the host itself */
export async function inSandbox<T>(
  kernel: Pick<Kernel, 'openNamespace'>,
  target: Target,
  work: (sandbox: Sandbox, namespace: KernelNamespace) => Promise<T>,
): Promise<T> {
  const { isNode, sandbox, namespace } = await open(kernel, target);
  try {
    if (isNode) {
      throw invalidArgument(
        `${target.canonical} has the network of this host itself, which cannot be attached`,
        'Give the container a network namespace of its own.',
      );
    }
    return await work(sandbox, namespace);
  } finally {
    namespace.close();
  }
}

async function open(
  kernel: Pick<Kernel, 'openNamespace'>,
  { canonical, path }: Target,
): ReturnType<Kernel['openNamespace']> {
  try {
    return await kernel.openNamespace(path);
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
    throw notFound(`container ${canonical} is gone: ${error.message}`, error.next, { cause: error });
  }
}
