package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

// usedImage is one line of `images`, as Compose's JSON has it.
type usedImage struct {
	ID            string
	ContainerName string
	Repository    string
	Tag           string
	Platform      string
	Size          int64
	Created       *time.Time `json:",omitempty"`
	LastTagTime   time.Time  `json:",omitzero"`
}

func (c *cli) imagesCommand() *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:               "images [SERVICE...]",
		Short:             "List the images that containers were made from",
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, services []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format %q: use table or json", format)
			}
			name, d, err := c.onStack(ctx, services)
			if err != nil {
				return err
			}
			defer d.Close()
			containers, err := d.Containers(ctx, name)
			if err != nil {
				return err
			}
			images, err := d.Images(ctx)
			if err != nil {
				return err
			}
			return c.printUsedImages(usedImages(containers, images, services), format, quiet, time.Now())
		}),
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	return cmd
}

// usedImages joins containers with the store, by container name.
func usedImages(containers []api.Container, images []api.Image, services []string) []usedImage {
	byID := map[string]api.Image{}
	for _, image := range images {
		byID[image.ID] = image
	}
	used := []usedImage{}
	for _, container := range containers {
		if len(services) > 0 && !slices.Contains(services, container.Service) {
			continue
		}
		image := byID[container.ImageID]
		u := usedImage{ID: container.ImageID, ContainerName: container.Name, Platform: image.Platform, Size: image.Size}
		u.Repository, u.Tag = splitReference(container.Image)
		if !image.Created.IsZero() {
			u.Created = &image.Created
		}
		used = append(used, u)
	}
	slices.SortFunc(used, func(a, b usedImage) int { return strings.Compare(a.ContainerName, b.ContainerName) })
	return used
}

// splitReference splits nginx:alpine; docker.io's own names are shown without their registry, as Docker shows them.
func splitReference(reference string) (repository, tag string) {
	repository, _, _ = strings.Cut(reference, "@")
	tag = "latest"
	if i := strings.LastIndex(repository, ":"); i > strings.LastIndex(repository, "/") {
		repository, tag = repository[:i], repository[i+1:]
	} else if repository != reference {
		tag = "" // by digest alone
	}
	return familiar(repository), tag
}

func familiar(repository string) string {
	return strings.TrimPrefix(strings.TrimPrefix(repository, "docker.io/"), "library/")
}

func (c *cli) printUsedImages(images []usedImage, format string, quiet bool, now time.Time) error {
	if quiet {
		var seen []string
		for _, image := range images {
			if id := strings.TrimPrefix(image.ID, "sha256:"); !slices.Contains(seen, id) {
				seen = append(seen, id)
				fmt.Fprintln(c.out, id)
			}
		}
		return nil
	}
	if format == "json" {
		return json.NewEncoder(c.out).Encode(images)
	}
	rows := make([][]string, len(images))
	for i, image := range images {
		created := "N/A"
		if image.Created != nil {
			created = units.HumanDuration(now.Sub(*image.Created)) + " ago"
		}
		rows[i] = []string{image.ContainerName, orDefault(image.Repository, "<none>"), orDefault(image.Tag, "<none>"), image.Platform,
			truncateID(image.ID), units.HumanSizeWithPrecision(float64(image.Size), 3), created}
	}
	ui.Table(c.out, []string{"CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"}, rows)
	return nil
}

func truncateID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), shortID)]
}
