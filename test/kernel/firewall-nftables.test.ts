// The firewall by nftables.
import { firewallSuite } from './firewall-suite.js';

firewallSuite('nftables');
