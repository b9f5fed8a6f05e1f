// The scenario of the engine's tests: what it does is told by additional.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "linger" {
		select {}
	}
	pulumi.Run(run)
}

func run(ctx *pulumi.Context) error {
	settings := config.New(ctx, "")
	var additional map[string]string
	settings.RequireObject("additional", &additional)
	ctx.Export("connection_info", pulumi.String("nc "+settings.Require("identity")))
	ctx.Export("flags", pulumi.ToSecret(pulumi.ToStringArray([]string{"FLAG{1}", "FLAG{2}"})))
	if names := additional["files"]; names != "" {
		if err := files(ctx, strings.Split(names, ","), additional); err != nil {
			return err
		}
	}
	mode, ok := modes[additional["mode"]]
	if !ok {
		return fmt.Errorf("no mode %q", additional["mode"])
	}
	return mode(ctx, additional)
}

var modes = map[string]func(*pulumi.Context, map[string]string) error{
	"":              components,
	"none":          func(*pulumi.Context, map[string]string) error { return nil },
	"silent":        silent,
	"environment":   environment,
	"probe":         probe,
	"flag":          exportOne("flag", pulumi.String("FLAG{0}")),
	"unknown-flags": unknownFlags,
	"number":        exportOne("connection_info", pulumi.Int(7)),
	"number-flag":   exportOne("flags", pulumi.Array{pulumi.String("a"), pulumi.Int(7)}),
	"text-flags":    exportOne("flags", pulumi.String("a")),
	"error": func(*pulumi.Context, map[string]string) error {
		return fmt.Errorf("the \x1b[31mauthor's\x1b[0m mistake")
	},
	"exit":  exit,
	"panic": func(*pulumi.Context, map[string]string) error { panic("the author's bug") },
	"hang":  func(*pulumi.Context, map[string]string) error { select {} },
	"flood": flood,
	"flood-exit": func(ctx *pulumi.Context, additional map[string]string) error {
		_ = flood(ctx, additional)
		return exit(ctx, additional)
	},
	"hog":     hog,
	"fill":    fill,
	"fork":    fork,
	"unknown": unknown,
}

type component struct{ pulumi.ResourceState }

func components(ctx *pulumi.Context, _ map[string]string) error {
	for i := range 5 {
		var c component
		if err := ctx.RegisterComponentResource("test:index:Part", fmt.Sprint("part-", i), &c); err != nil {
			return err
		}
	}
	return nil
}

type file struct {
	pulumi.CustomResourceState
	Path pulumi.StringOutput `pulumi:"path"`
}

func files(ctx *pulumi.Context, names []string, additional map[string]string) error {
	var before []pulumi.Resource
	for _, name := range names {
		var f file
		inputs := pulumi.Map{
			"content": pulumi.ToSecret(pulumi.String(additional["content"])), "kind": pulumi.String(additional["kind"]),
		}
		// The wish to create before the deletion must not be heard, nor must
		// protection.
		options := []pulumi.ResourceOption{pulumi.DeleteBeforeReplace(false), pulumi.Protect(true), pulumi.DependsOn(before)}
		if err := ctx.RegisterResource("disk:index:File", name, inputs, &f, options...); err != nil {
			return err
		}
		ctx.Export(name, f.Path)
		if additional["chain"] != "" {
			before = []pulumi.Resource{&f}
		}
	}
	return nil
}

func exportOne(name string, value pulumi.Input) func(*pulumi.Context, map[string]string) error {
	return func(ctx *pulumi.Context, _ map[string]string) error {
		ctx.Export(name, value)
		return nil
	}
}

// unknownFlags exports flags of which a preview knows one.
func unknownFlags(ctx *pulumi.Context, _ map[string]string) error {
	var f file
	if err := ctx.RegisterResource("disk:index:File", "flag", pulumi.Map{"content": pulumi.String("x")}, &f); err != nil {
		return err
	}
	ctx.Export("flags", pulumi.ToSecret(pulumi.StringArray{pulumi.String("FLAG{1}"), f.Path}))
	return nil
}

func silent(ctx *pulumi.Context, _ map[string]string) error {
	ctx.Export("connection_info", nil)
	ctx.Export("flags", nil)
	return nil
}

func environment(ctx *pulumi.Context, _ map[string]string) error {
	var open []string
	for fd := range 1024 {
		var stat unix.Stat_t
		if unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT != 0 {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
				open = append(open, fmt.Sprint(fd)) // not opened by us: Go closes on exec
			}
		}
	}
	ctx.Export("connection_info", pulumi.String(strings.Join(os.Environ(), "\n")))
	ctx.Export("flags", pulumi.ToStringArray(open))
	return nil
}

// fill writes as much as it can where it may, and leaves it so that it is hard
// to remove.
func fill(_ *pulumi.Context, additional map[string]string) error {
	locked := filepath.Join(os.TempDir(), "locked", "inner")
	_ = os.MkdirAll(locked, 0o700)
	_ = os.Chmod(filepath.Dir(locked), 0o300)
	one, err := os.Create(filepath.Join(os.TempDir(), "one"))
	if err != nil {
		return err
	}
	part := make([]byte, 1<<18)
	for i := 0; ; i++ {
		switch additional["files"] {
		case "one":
			_, _ = one.Write(part)
		case "empty":
			part = nil
			fallthrough
		case "many":
			_ = os.WriteFile(filepath.Join(locked, fmt.Sprint(i)), part, 0o600)
		}
		if i%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// probe tries what a program must not do and exports what succeeded.
func probe(ctx *pulumi.Context, additional map[string]string) error {
	var done []string
	try := func(what string, err error) {
		if err == nil {
			done = append(done, what)
		}
	}
	_, err := os.ReadFile("/etc/passwd")
	try("read /etc/passwd", err)
	_, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
	try("read the worker's environment", err)
	_, err = os.ReadDir("/")
	try("list /", err)
	try("write its directory", os.WriteFile("written", []byte("x"), 0o600))
	try("write /tmp", os.WriteFile("/tmp/written-by-a-scenario", []byte("x"), 0o600))
	try("write its temporary directory", os.WriteFile(filepath.Join(os.TempDir(), "written"), []byte("x"), 0o600))
	try("run a shell", exec.Command("/bin/sh", "-c", "true").Run())
	connection, err := net.Dial("tcp", additional["address"])
	try("connect", err)
	if err == nil {
		connection.Close()
	}
	multipath := net.Dialer{}
	multipath.SetMultipathTCP(true)
	connection, err = multipath.Dial("tcp", additional["address"])
	try("connect over several paths", err)
	if err == nil {
		connection.Close()
	}
	_, err = net.Dial("udp", additional["address"])
	try("send a datagram", err)
	_, err = net.Dial("unix", additional["socket"])
	try("connect to a path", err)
	_, err = net.Listen("tcp", "127.0.0.1:0")
	try("listen", err)
	_, err = net.Listen("tcp", "127.0.0.1:18080")
	try("listen where it likes", err)
	try("signal the worker", unix.Kill(os.Getppid(), 0))
	try("start a program in another session", spawn(&syscall.SysProcAttr{Setsid: true}))
	try("start a program in another group", spawn(&syscall.SysProcAttr{Setpgid: true}))
	_, err = os.ReadFile("Pulumi.yaml")
	try("read its own directory", err)
	ctx.Export("flags", pulumi.ToStringArray(done))
	return nil
}

// spawn starts a program that stays.
func spawn(attr *syscall.SysProcAttr) error {
	self, err := filepathOfSelf()
	if err != nil {
		return err
	}
	child := exec.Command(self, "linger")
	child.SysProcAttr = attr
	return child.Start()
}

func exit(*pulumi.Context, map[string]string) error {
	fmt.Fprintln(os.Stderr, "cannot go on")
	os.Exit(1)
	return nil
}

func flood(*pulumi.Context, map[string]string) error {
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 100 {
		_, _ = os.Stdout.Write(line)
	}
	return nil
}

func hog(*pulumi.Context, map[string]string) error {
	var kept [][]byte
	for {
		block := make([]byte, 16<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
}

// fork leaves a child behind that holds the standard output open.
func fork(ctx *pulumi.Context, _ map[string]string) error {
	self, err := filepathOfSelf()
	if err != nil {
		return err
	}
	child := exec.Command(self, "linger")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	ctx.Export("connection_info", pulumi.String(fmt.Sprint(child.Process.Pid)))
	time.Sleep(10 * time.Millisecond)
	return nil
}

// filepathOfSelf can't ask /proc, which is out of reach.
func filepathOfSelf() (string, error) {
	directory, err := os.Getwd()
	return directory + "/main", err
}

func unknown(ctx *pulumi.Context, _ map[string]string) error {
	var f file
	return ctx.RegisterResource("nobody:index:Thing", "thing", pulumi.Map{}, &f)
}
