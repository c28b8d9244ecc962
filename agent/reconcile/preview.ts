// Preview: what a comparison would change, found without changing it.
import { type Actual, linkKey } from '../../core/objects/index.js';
import type { Plan, Step } from '../../core/plan.js';
import type { CloudStep } from '../../core/cloud.js';
import { createdLinks } from './apply-steps.js';
import type { CloudRoutes } from './cloud-routes.js';
import { type ContainerTarget, type ContainerTargets, stepsInside } from './container-target.js';
import type { FirewallTarget } from './firewall-target.js';
import type { NodeTarget } from './node-target.js';
import type { SandboxKey } from './record-key.js';

export interface Preview {
  node: Plan;
  containers: { record: SandboxKey; path: string; plan: Plan }[];
  /** Containers that cannot be opened now. */
  unknown: { path: string; error: unknown }[];
  /** See FirewallDriver.difference. */
  firewall: string[];
  cloud: CloudStep[];
}

/** @throws WeftError where the firewall cannot be read */
export async function preview(targets: {
  node: NodeTarget;
  containers: ContainerTargets;
  firewall: FirewallTarget;
  cloud: CloudRoutes;
}): Promise<Preview> {
  const { node, containers, firewall, cloud } = targets;
  const found: { record: SandboxKey; target: ContainerTarget; actual: Actual; plan: Plan }[] = [];
  const unknown: Preview['unknown'] = [];
  for (const record of containers.records()) {
    const target = containers.get(record);
    if (target === undefined) continue;
    try {
      const actual = await target.look();
      // Absent: its container is gone, and the record would end.
      if (actual !== undefined) found.push({ record, target, actual, plan: target.plan(actual) });
    } catch (error) {
      unknown.push({ path: target.inside.sandbox.path, error });
    }
  }
  // A pair of which the container's end is gone or was renamed is deleted, and made anew.
  const broken = new Set(
    found.flatMap(({ target, plan }) =>
      createdLinks(plan.steps).size > 0 ? [target.inside.hostIfname] : [],
    ),
  );
  const actual = await node.observe();
  const { steps, conflicts } = node.plan(withoutLinks(actual, broken));
  const deleted = [...broken].filter((name) => actual.objects.has(linkKey(name)));
  const deletions = deleted.map((name): Step => ({ do: 'delete-link', name }));
  const created = createdLinks(steps);
  return {
    node: { steps: [...deletions, ...steps], conflicts },
    containers: found.map(({ record, target, actual, plan }) => {
      const { inside } = target;
      const isNew = created.has(inside.hostIfname);
      return {
        record,
        path: inside.sandbox.path,
        plan: isNew ? { ...plan, steps: stepsInside(inside, actual) } : plan,
      };
    }),
    unknown,
    firewall: await firewall.difference(),
    cloud: await cloud.preview(),
  };
}

/** What would be left if these links were deleted. */
function withoutLinks(actual: Actual, links: ReadonlySet<string>): Actual {
  if (links.size === 0) return actual;
  const objects = [...actual.objects].filter(([, { object }]) =>
    object.kind === 'link' ? !links.has(object.name) : !('link' in object && links.has(object.link)),
  );
  return { ...actual, objects: new Map(objects) };
}
