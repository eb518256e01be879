package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"interdict/internal/agent/netguard"
)

// Queueing is the way in which this kernel's nftables hands packets over.
type Queueing string

// The ways.
const (
	// QueueingNative is nftables' own queue statement (CONFIG_NFT_QUEUE).
	QueueingNative Queueing = "native"
	// QueueingXtables is the NFQUEUE target of xtables through nftables'
	// compatibility layer (CONFIG_NFT_COMPAT and
	// CONFIG_NETFILTER_XT_TARGET_NFQUEUE).
	QueueingXtables Queueing = "xtables"
)

// toQueue returns the statement that hands a packet over. While nobody
// listens there the packet is dropped if c.FailClosed is set, else it leaves
// the base chain as accepted.
func (q Queueing) toQueue(to netguard.Queue, c netguard.Config) expr.Any {
	num := c.QueueBase + uint16(to)
	if q == QueueingNative {
		e := &expr.Queue{Num: num, Total: 1}
		if !c.FailClosed {
			e.Flag = expr.QueueFlagBypass
		}
		return e
	}
	// struct xt_NFQ_info_v3 of linux/netfilter/xt_NFQUEUE.h: queuenum,
	// queues_total and flags, each 16 bits in host order, padded to eight
	// bytes as all xtables data is.
	const bypass = 1
	info := make(xt.Unknown, 8)
	binary.NativeEndian.PutUint16(info[0:], num)
	binary.NativeEndian.PutUint16(info[2:], 1)
	if !c.FailClosed {
		binary.NativeEndian.PutUint16(info[4:], bypass)
	}
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

// probeQueueing finds out which way the kernel knows. Each try is one batch
// that makes a table with the statement in a chain without a hook and
// deletes it again, so no packet ever meets it.
func probeQueueing(conn *nftables.Conn) (Queueing, error) {
	var faults []error
	for _, q := range []Queueing{QueueingNative, QueueingXtables} {
		table := &nftables.Table{Name: tableName + "-probe", Family: nftables.TableFamilyINet}
		conn.AddTable(table)
		chain := conn.AddChain(&nftables.Chain{Table: table, Name: "probe"})
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chain,
			Exprs: []expr.Any{q.toQueue(netguard.QueueFlow, netguard.Config{})},
		})
		conn.DelTable(table)
		err := conn.Flush()
		if err == nil {
			return q, nil
		}
		faults = append(faults, fmt.Errorf("probing %s queueing: %w", q, explain(err)))
	}
	return "", fmt.Errorf("finding a way to queue packets (the kernel needs CONFIG_NFT_QUEUE, "+
		"or CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE): %w", errors.Join(faults...))
}
