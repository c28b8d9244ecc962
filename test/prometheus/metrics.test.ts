// Metrics as Prometheus takes them: names, alert rules and the dashboard's queries, on a cluster of two hosts.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, INFRA } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';

const PROGRAMS = join(CHECKOUT, 'node_modules/.cache/weft-prometheus');
const RULES = join(CHECKOUT, 'deploy/prometheus/weft.rules.yml');
const SCRAPE_SECONDS = 1;

let lab: Cluster;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2');
    await lab.startController(['--http', '0.0.0.0:7401']);
    await lab.startAgents(['h1', 'h2'], ['--http', '0.0.0.0:7402', '--endpoint-metrics', 'on']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.attach('h1', 'blue', 'c1', '--name', 'web');
    const db = await lab.attach('h2', 'blue', 'c2', '--name', 'db');
    await lab.until('they reach each other', () => lab.reaches('c1', bare(db.ip)));
    const job = (name: string, targets: string[]): object => ({
      job_name: name,
      static_configs: [{ targets }],
    });
    const config = {
      global: { scrape_interval: `${SCRAPE_SECONDS}s`, evaluation_interval: '1s' },
      rule_files: [RULES],
      scrape_configs: [
        job(
          'weft-agent',
          ['h1', 'h2'].map((host) => `${lab.ipOf(host)}:7402`),
        ),
        job('weft-controller', ['127.0.0.1:7401']),
      ],
    };
    // JSON is YAML.
    const file = join(lab.folder, 'prometheus.yml');
    writeFileSync(file, JSON.stringify(config));
    lab.spawn('prometheus', INFRA, [
      join(PROGRAMS, 'prometheus'),
      ...[`--config.file=${file}`, `--storage.tsdb.path=${join(lab.folder, 'tsdb')}`],
      '--web.listen-address=127.0.0.1:9090',
    ]);
    await lab.until('all are scraped', async () => (await query('up == 1')).length === 3);
    await lab.sh('c1', `ping -q -c 20 -i 0.1 ${bare(db.ip)}`);
  },
  async () => {
    await lab?.lab.down();
  },
);

interface Series {
  metric: Record<string, string>;
  value: [number, string];
}

async function query(expression: string): Promise<Series[]> {
  const { stdout } = await lab.try(
    INFRA,
    `curl -s --data-urlencode query=${quoted(expression)} http://127.0.0.1:9090/api/v1/query`,
  );
  if (stdout === '') return [];
  const { status, data, error } = JSON.parse(stdout) as {
    status: string;
    data: { result: Series[] };
    error?: string;
  };
  if (status !== 'success') throw new Error(`${expression}: ${error}`);
  return data.result;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

test.serial('promtool finds no fault with the names and helps of weft’s metrics', async (t) => {
  for (const [host, port] of [
    ['h1', 7402],
    [INFRA, 7401],
  ] as const) {
    const metrics = await lab.sh(host, `curl -s http://127.0.0.1:${port}/metrics`);
    const own = metrics.split('\n').filter((line) => /^(?:# (?:HELP|TYPE) )?weft_/.test(line));
    t.true(own.length > 20);
    t.notThrows(() =>
      execFileSync(join(PROGRAMS, 'promtool'), ['check', 'metrics'], { input: `${own.join('\n')}\n` }),
    );
  }
});

test.serial('traffic, events, clock and versions are measured', async (t) => {
  const sent = await lab.until('traffic', async () => {
    const [series] = await query('weft_endpoint_sent_packets_total{endpoint="web"}');
    return Number(series?.value[1] ?? 0) > 20 ? series : undefined;
  });
  t.like(sent.metric, { network: 'blue', endpoint: 'web' });
  t.true(
    Number((await query('sum(weft_network_received_bytes_total{network="blue"})'))[0]?.value[1]) > 20 * 84,
  );
  t.true((await query('weft_events_total{reason="attached"} > 0')).length === 2);
  for (const { value } of await query('abs(weft_clock_offset_seconds)'))
    t.true(Number(value[1]) < 1, value[1]);
  t.is((await query('weft_build_info')).length, 3);
});

/** Series that a healthy cluster does not have. */
const MAY_BE_EMPTY =
  /weft_kernel_steps_failed_total|weft_drift_repaired_total|weft_certificate_expiry|weft_dropped_packets_total/;

test.serial('each query of the dashboard is answered, with something in it', async (t) => {
  const dashboard = JSON.parse(readFileSync(join(CHECKOUT, 'deploy/grafana/weft.json'), 'utf8')) as {
    panels: {
      id: number;
      title: string;
      type: string;
      gridPos: { x: number; w: number };
      targets: { expr: string }[];
    }[];
    templating: { list: { name: string; query: unknown }[] };
  };
  t.is(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
  t.deepEqual(
    dashboard.templating.list.map(({ name }) => name),
    ['datasource', 'node'],
  );
  for (const { title, type, gridPos, targets } of dashboard.panels) {
    t.true(['stat', 'timeseries', 'table'].includes(type) && gridPos.x + gridPos.w <= 24, title);
    t.true(targets.length > 0, title);
    for (const { expr } of targets) {
      const asked = expr.replaceAll('$__rate_interval', `${20 * SCRAPE_SECONDS}s`).replaceAll('$node', '.*');
      t.false(asked.includes('$'), asked);
      await lab.until(asked, async () => (await query(asked)).length > 0 || MAY_BE_EMPTY.test(expr));
      t.pass();
    }
  }
});

test.serial(
  'the rules are evaluated, and nothing is alerted of a healthy cluster; a lost etcd is',
  async (t) => {
    interface Rule {
      name: string;
      health: string;
      state: string;
    }
    const rules = async (): Promise<Rule[]> => {
      const answer = await lab.sh(INFRA, 'curl -s http://127.0.0.1:9090/api/v1/rules');
      const { data } = JSON.parse(answer) as { data: { groups: { rules: Rule[] }[] } };
      return data.groups.flatMap((group) => group.rules);
    };
    // A first scrape may have been before an agent reached etcd.
    await lab.until('all were evaluated, and nothing is alerted', async () => {
      const all = await rules();
      const unwell = all.filter(({ health, state }) => health !== 'ok' || state !== 'inactive');
      if (unwell.length > 0) throw new Error(JSON.stringify(unwell));
      return all.length > 0;
    });
    await lab.process('controller').kill();
    await lab.until('it is pending', async () =>
      (await rules()).some(({ name, state }) => name === 'WeftStoreAway' && state === 'pending'),
    );
    t.pass();
  },
);
