//go:build tools

// Package tools pins what is built of etcd.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
