package local_test

import (
	"testing"

	"tidemark/replica/local"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	d := open(t)
	if _, ok := d.TakeRequest(); ok || local.Requested(d.Path()) {
		t.Error("there is a request that nobody has made")
	}
	for _, want := range []bool{true, false} {
		for _, full := range []bool{!want, want} { // the second one replaces the first
			if err := local.RequestSnapshot(d.Path(), full); err != nil {
				t.Fatal(err)
			}
		}
		if !local.Requested(d.Path()) {
			t.Error("the request is not there")
		}
		if full, ok := d.TakeRequest(); !ok || full != want {
			t.Errorf("the request is %v, %v; want %v", full, ok, want)
		}
		if _, ok := d.TakeRequest(); ok || local.Requested(d.Path()) {
			t.Error("the request was taken up and is there again")
		}
	}
	if err := local.RequestSnapshot(d.Path()+"/none", true); err == nil {
		t.Error("a request without a directory")
	}
}
