package kubernetes_test

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// A web server with a host name of its own for each instance.
func ExampleNewExposedMonopod() {
	sdk.Run(func(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
		pod, err := kubernetes.NewExposedMonopod(req.Ctx, "web", &kubernetes.ExposedMonopodArgs{
			Identity: req.Config.Identity,
			Hostname: "ctf.example",
			Container: kubernetes.Container{
				Image:   "registry.example/web:v1",
				Ports:   []kubernetes.PortBinding{{Port: 8080, ExposeType: kubernetes.ExposeIngress}},
				Secrets: map[string]string{"FLAG": "MAYFLY{" + sdk.Variate(req.Config.Identity, "one_day") + "}"},
			},
			IngressTLS: &kubernetes.IngressTLS{},
		}, opts...)
		if err != nil {
			return err
		}
		resp.ConnectionInfo = pulumi.Sprintf("https://%s", pod.URLs.MapIndex(pulumi.String("8080/TCP")))
		return nil
	})
}

// A service over TCP with a database behind it that players can't reach.
func ExampleNewExposedMultipod() {
	sdk.Run(func(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
		pods, err := kubernetes.NewExposedMultipod(req.Ctx, "bank", &kubernetes.ExposedMultipodArgs{
			Identity: req.Config.Identity,
			Hostname: "ctf.example",
			Containers: map[string]kubernetes.Container{
				"bank": {
					Image: "registry.example/bank:v1",
					Ports: []kubernetes.PortBinding{{Port: 1337, ExposeType: kubernetes.ExposeNodePort}},
					Envs:  map[string]kubernetes.Printer{"DATABASE": kubernetes.NewPrinter("postgres://%s:5432/bank", "database")},
				},
				"database": {
					Image:    "registry.example/database:v1",
					Ports:    []kubernetes.PortBinding{{Port: 5432}},
					Security: kubernetes.Security{WritableRoot: true},
				},
			},
			Rules: []kubernetes.Rule{{From: "bank", To: "database", On: 5432}},
		}, opts...)
		if err != nil {
			return err
		}
		at := pods.URLs.MapIndex(pulumi.String("bank")).MapIndex(pulumi.String("1337/TCP"))
		resp.ConnectionInfo = pulumi.Sprintf("nc %s", at)
		return nil
	})
}

// The objects, without anything being made.
func ExampleExposedMonopodArgs_Plan() {
	args := &kubernetes.ExposedMonopodArgs{
		Identity: "a0b1c2d3",
		Hostname: "ctf.example",
		Container: kubernetes.Container{
			Image: "registry.example/web:v1",
			Ports: []kubernetes.PortBinding{{Port: 8080, ExposeType: kubernetes.ExposeIngress}},
		},
	}
	plan, err := args.Plan()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range plan.Objects {
		fmt.Println(o.Key(), "after", o.After)
	}
	for _, e := range plan.Endpoints {
		fmt.Println(e.Key(), "at", e.Host)
	}
	// Output:
	// NetworkPolicy/one after []
	// Deployment/one after [NetworkPolicy/one]
	// Service/one.8080-tcp after []
	// Ingress/one.8080-tcp after [Service/one.8080-tcp]
	// 8080/TCP at fb4612eb.ctf.example
}

// Everything that is wrong is said at once.
func ExampleExposedMonopodArgs_Check() {
	args := &kubernetes.ExposedMonopodArgs{
		Identity: "a0b1c2d3",
		Hostname: "ctf.example",
		Container: kubernetes.Container{
			Ports:  []kubernetes.PortBinding{{Port: 80800, ExposeType: kubernetes.ExposeIngress}},
			Limits: map[string]string{"memory": "500m"},
		},
	}
	fmt.Println(args.Check())
	// Output:
	// Container.Image: it is empty
	// Container.Ports[0].Port: 80800 is not in 1 to 65535
	// Container.Limits[memory]: 500m is less than any program needs: memory is counted in bytes, such as 256Mi
}
