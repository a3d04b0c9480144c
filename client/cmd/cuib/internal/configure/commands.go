// Package configure has the commands that are about configuration, and about
// what instances are made of and connected to.
package configure

import "github.com/cuib/cuib/client/cmd/cuib/internal/kit"

// Commands returns the commands that are about all else.
func Commands(k *kit.Env) []kit.Maker {
	e := &env{k}
	return []kit.Maker{
		kit.Called(e, newAdmin, "admin"),
		kit.Called(e, newConfig, "config"),
		kit.Called(e, newImage, "image"),
		kit.Called(e, newMonitor, "monitor"),
		kit.Called(e, newNetwork, "network"),
		kit.Called(e, newOperation, "operation"),
		kit.Called(e, newProfile, "profile"),
		kit.Called(e, newProject, "project"),
		kit.Called(e, newQuery, "query"),
		kit.Called(e, newStorage, "storage"),
		kit.Called(e, newVersion, "version"),
		kit.Called(e, newWarning, "warning"),
	}
}
