// The firewall by iptables-legacy.
import { firewallSuite } from './firewall-suite.js';

firewallSuite('iptables-legacy');
